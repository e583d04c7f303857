package dev.postcopyd.control;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.tls.TlsCredentials;
import io.netty.channel.ChannelException;
import io.netty.channel.epoll.Epoll;
import io.netty.channel.unix.DomainSocketAddress;
import io.netty.channel.unix.Socket;
import java.io.IOException;
import java.net.ConnectException;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.SocketException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.GroupPrincipal;
import java.nio.file.attribute.PosixFileAttributeView;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A socket that listens, made as a {@link SocketSpec} says or inherited.
 *
 * <p>A unix socket never opens to more people than it should, not even for a moment. A file that a
 * dead process left behind is replaced; one that a living process listens on is not. {@link
 * #close()} removes the file, unless it is somebody else's by then.
 */
final class ListeningSocket implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(ListeningSocket.class);

  private static final int BACKLOG = 1024;

  // asm-generic/socket.h, the same on x86-64 and aarch64
  private static final int SOL_SOCKET = 1;
  private static final int SO_ACCEPTCONN = 30;
  private static final int SO_DOMAIN = 39;
  private static final int AF_UNIX = 1;

  static {
    // Loads the native library, which Netty's Socket takes for granted.
    Epoll.ensureAvailability();
  }

  private final SocketSpec spec;
  private final Socket socket;
  private final SocketAddress address;
  private final @Nullable Path path;
  private final @Nullable Object fileKey;
  private final @Nullable TlsCredentials tls;

  private ListeningSocket(
      SocketSpec spec,
      Socket socket,
      SocketAddress address,
      @Nullable Path path,
      @Nullable Object fileKey,
      @Nullable TlsCredentials tls) {
    this.spec = spec;
    this.socket = socket;
    this.address = address;
    this.path = path;
    this.fileKey = fileKey;
    this.tls = tls;
  }

  /**
   * Opens the socket; may resolve a host name.
   *
   * @throws IOException with a sentence that names the socket and what is wrong
   */
  static ListeningSocket open(SocketSpec spec) throws IOException {
    return switch (spec) {
      case SocketSpec.Unix unix -> openUnix(unix);
      case SocketSpec.Tcp tcp -> openTcp(tcp);
      case SocketSpec.Inherited inherited -> openInherited(inherited);
    };
  }

  private static ListeningSocket openUnix(SocketSpec.Unix spec) throws IOException {
    Path path = Path.of(spec.path());
    removeStale(spec, path);
    Optional<GroupPrincipal> group =
        spec.group().isPresent() ? Optional.of(group(spec, path)) : Optional.empty();
    // Until the group is right, the socket is its owner's alone.
    int fd = UnixSocket.listen(path, group.isEmpty() ? spec.mode() : 0600 & spec.mode(), BACKLOG);
    try {
      Object fileKey = fileKey(path);
      if (group.isPresent()) {
        Files.getFileAttributeView(path, PosixFileAttributeView.class, LinkOption.NOFOLLOW_LINKS)
            .setGroup(group.get());
        UnixSocket.chmod(path, spec.mode());
      }
      return new ListeningSocket(
          spec, new Socket(fd), new DomainSocketAddress(spec.path()), path, fileKey, null);
    } catch (IOException | RuntimeException e) {
      Files.deleteIfExists(path);
      FileDescriptors.close(fd);
      throw e;
    }
  }

  private static GroupPrincipal group(SocketSpec.Unix spec, Path path) throws IOException {
    String group = spec.group().orElseThrow();
    try {
      return path.getFileSystem().getUserPrincipalLookupService().lookupPrincipalByGroupName(group);
    } catch (IOException e) {
      throw new IOException("cannot listen on " + spec + ": there is no group '" + group + "'", e);
    }
  }

  /** Removes the file of a process that is gone; a connection attempt tells. */
  private static void removeStale(SocketSpec.Unix spec, Path path) throws IOException {
    if (!Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
      return;
    }
    if (!isSocket(path)) {
      throw new IOException("cannot listen on " + spec + ": the path exists and is no socket");
    }
    try (SocketChannel probe = SocketChannel.open(StandardProtocolFamily.UNIX)) {
      probe.configureBlocking(false);
      probe.connect(UnixDomainSocketAddress.of(path));
      throw new IOException(
          "cannot listen on " + spec + ": another process is listening on it already");
    } catch (ConnectException refused) {
      LOG.info("stale socket removed path={}", path);
      Files.deleteIfExists(path);
    } catch (SocketException e) {
      throw new IOException(
          "cannot listen on "
              + spec
              + ": the path exists, and whether a process is listening on it cannot be told: "
              + e.getMessage(),
          e);
    }
  }

  private static boolean isSocket(Path path) throws IOException {
    int mode = (Integer) Files.getAttribute(path, "unix:mode", LinkOption.NOFOLLOW_LINKS);
    return (mode & 0170000) == 0140000;
  }

  private static ListeningSocket openTcp(SocketSpec.Tcp spec) throws IOException {
    InetSocketAddress wanted = spec.address();
    if (wanted.isUnresolved()) {
      throw new IOException("cannot listen on " + spec + ": the host name is not known");
    }
    TlsCredentials tls = credentials(spec, spec.protection(), wanted);
    Socket socket = Socket.newSocketStream();
    try {
      socket.setReuseAddress(true);
      socket.bind(wanted);
      socket.listen(BACKLOG);
      return new ListeningSocket(spec, socket, socket.localAddress(), null, null, tls);
    } catch (IOException e) {
      socket.close();
      throw new IOException("cannot listen on " + spec + ": " + e.getMessage(), e);
    }
  }

  private static ListeningSocket openInherited(SocketSpec.Inherited spec) throws IOException {
    Socket socket;
    boolean listening;
    try {
      socket = new Socket(spec.fd());
      listening = socket.getIntOpt(SOL_SOCKET, SO_ACCEPTCONN) != 0;
    } catch (IOException | ChannelException e) {
      throw new IOException("cannot listen on " + spec + ": it is no open socket", e);
    }
    if (!listening) {
      throw new IOException("cannot listen on " + spec + ": the socket is not listening");
    }
    FileDescriptors.setNonBlocking(spec.fd(), true);
    boolean unix = socket.getIntOpt(SOL_SOCKET, SO_DOMAIN) == AF_UNIX;
    SocketAddress address = unix ? new DomainSocketAddress(spec.toString()) : socket.localAddress();
    TlsCredentials tls = null;
    if (address instanceof InetSocketAddress inet) {
      tls = credentials(spec, spec.protection(), inet);
    } else if (!spec.protection().equals(SocketSpec.Protection.NOTHING_SAID)) {
      throw new IOException(
          "cannot listen on "
              + spec
              + ": tls-creds= and insecure= are for TCP, and it is a unix socket");
    }
    return new ListeningSocket(spec, socket, address, null, null, tls);
  }

  /**
   * By what clients are known; null if by nothing.
   *
   * @throws IOException if nothing was said, or that nothing matters where others could come from
   */
  private static @Nullable TlsCredentials credentials(
      SocketSpec spec, SocketSpec.Protection protection, InetSocketAddress address)
      throws IOException {
    if (protection.credentials().isPresent()) {
      try {
        return TlsCredentials.load(
            Path.of(protection.credentials().get()), TlsCredentials.Endpoint.SERVER, true);
      } catch (IOException e) {
        throw new IOException("cannot listen on " + spec + ": " + e.getMessage(), e);
      }
    }
    boolean isLocal = address.getAddress().isLoopbackAddress();
    if (protection.isInsecure() && isLocal) {
      LOG.warn("qmp commands are taken from every user of this machine socket={}", spec);
      return null;
    }
    throw new IOException(
        "cannot listen on "
            + spec
            + ": whoever connects could command the virtual machine: add tls-creds=DIR, where DIR has"
            + " ca-cert.pem, server-cert.pem and server-key.pem"
            + (isLocal
                ? ", or insecure=on if every user of this machine may"
                : protection.isInsecure()
                    ? "; insecure=on is for the loopback interface only"
                    : ""));
  }

  private static @Nullable Object fileKey(Path path) throws IOException {
    return Files.readAttributes(
            path, java.nio.file.attribute.BasicFileAttributes.class, LinkOption.NOFOLLOW_LINKS)
        .fileKey();
  }

  SocketSpec spec() {
    return spec;
  }

  Socket socket() {
    return socket;
  }

  /** Where it listens, with the port that the kernel chose. */
  SocketAddress address() {
    return address;
  }

  /** With what connections begin; empty if with QMP at once. */
  Optional<TlsCredentials> tls() {
    return Optional.ofNullable(tls);
  }

  /** Whether connections are TCP ones. */
  boolean isTcp() {
    return address instanceof InetSocketAddress;
  }

  @Override
  public void close() throws IOException {
    if (!socket.isOpen()) {
      return;
    }
    try {
      // Before the close: afterwards, the inode number could be another file's.
      if (path != null && fileKey != null && fileKey.equals(fileKey(path))) {
        Files.deleteIfExists(path);
      }
    } catch (NoSuchFileException gone) {
      LOG.debug("socket file was gone path={}", path);
    } finally {
      socket.close();
    }
  }
}
