package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.AF_INET;
import static dev.postcopyd.posix.abi.PosixConstants.AF_INET6;
import static dev.postcopyd.posix.abi.PosixConstants.SOCK_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.SOCK_NONBLOCK;
import static dev.postcopyd.posix.abi.PosixConstants.SOCK_STREAM;
import static dev.postcopyd.posix.abi.PosixConstants.SOL_SOCKET;
import static dev.postcopyd.posix.abi.PosixConstants.SO_REUSEADDR;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_IN_SIN_PORT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_BIND;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_GETSOCKNAME;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_LISTEN;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SETSOCKOPT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SOCKET;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.net.Inet6Address;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.OptionalInt;
import org.jspecify.annotations.Nullable;

/**
 * A listening stream socket that one thread accepts from, and that any other thread can stop.
 *
 * <p>Owns its descriptor, and the name of a unix socket, which {@link #close} removes. Close only
 * after {@link #stop}, when no thread is in {@link #accept}.
 */
public final class SocketListener implements AutoCloseable {
  private static final int BACKLOG = 512;
  private static final int OWNER_ONLY = 0600;

  private final int fd;
  private final String name;
  private final int port;
  private final @Nullable Path path;
  private final EventFd stopping;
  private final Poll poll;
  private volatile boolean stopped;
  private boolean closed;

  private SocketListener(int fd, String name, int port, @Nullable Path path) throws IOException {
    this.fd = fd;
    this.name = name;
    this.port = port;
    this.path = path;
    this.stopping = EventFd.create();
    this.poll = Poll.readable(fd, stopping.fd());
  }

  /** Listens on a resolved address; port 0 lets the kernel choose. */
  public static SocketListener tcp(InetSocketAddress address) throws IOException {
    String target = "tcp:" + address.getHostString() + ":" + address.getPort();
    if (address.isUnresolved()) {
      throw new IOException("cannot listen on " + target + ": the host name is not known");
    }
    boolean six = address.getAddress() instanceof Inet6Address;
    int fd =
        (int)
            ErrnoException.check(
                Libc.syscall(
                    SYS_SOCKET,
                    six ? AF_INET6 : AF_INET,
                    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    0),
                "socket",
                target);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment on = arena.allocate(JAVA_INT);
      on.set(JAVA_INT, 0, 1);
      ErrnoException.check(
          Libc.syscall(SYS_SETSOCKOPT, fd, SOL_SOCKET, SO_REUSEADDR, on.address(), 4, 0),
          "setsockopt(SO_REUSEADDR)",
          target);
      MemorySegment wanted =
          address.getAddress() instanceof Inet6Address inet6
              ? SocketConnector.inet6(arena, inet6, address.getPort())
              : SocketConnector.inet4(arena, address.getAddress(), address.getPort());
      ErrnoException.check(
          Libc.syscall(SYS_BIND, fd, wanted.address(), wanted.byteSize()), "bind", target);
      ErrnoException.check(Libc.syscall(SYS_LISTEN, fd, BACKLOG), "listen", target);
      return new SocketListener(fd, target, portOf(arena, fd, target), null);
    } catch (IOException | RuntimeException e) {
      FileDescriptors.close(fd);
      throw e;
    }
  }

  private static int portOf(Arena arena, int fd, String target) throws IOException {
    MemorySegment bound = arena.allocate(128, 8);
    MemorySegment length = arena.allocate(JAVA_INT);
    length.set(JAVA_INT, 0, 128);
    ErrnoException.check(
        Libc.syscall(SYS_GETSOCKNAME, fd, bound.address(), length.address()),
        "getsockname",
        target);
    // At the same place in both families.
    return bound.get(SocketConnector.BE16, SOCKADDR_IN_SIN_PORT) & 0xffff;
  }

  /**
   * Listens on a unix socket that only its owner can connect to. A name that a dead process has
   * left behind is replaced.
   */
  public static SocketListener unix(Path path) throws IOException {
    if (Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
      removeStale(path);
    }
    int fd = UnixSocket.listen(path, OWNER_ONLY, BACKLOG);
    try {
      return new SocketListener(fd, "unix:" + path, 0, path);
    } catch (IOException | RuntimeException e) {
      FileDescriptors.close(fd);
      Files.deleteIfExists(path);
      throw e;
    }
  }

  private static void removeStale(Path path) throws IOException {
    int probe;
    try {
      probe = UnixSocket.tryConnect(path);
    } catch (ErrnoException e) {
      if (e.errno() == Errno.ECONNREFUSED
          && (((Integer) Files.getAttribute(path, "unix:mode", LinkOption.NOFOLLOW_LINKS))
                  & 0170000)
              == 0140000) {
        Files.deleteIfExists(path);
        return;
      }
      throw new IOException(
          "cannot listen on unix:" + path + ": the path exists (" + e.getMessage() + ")", e);
    }
    FileDescriptors.close(probe);
    throw new IOException(
        "cannot listen on unix:" + path + ": another process is listening on it already");
  }

  /** How messages name it. */
  public String name() {
    return name;
  }

  /** The port of a TCP socket, also of one that the kernel chose. */
  public OptionalInt port() {
    return path == null ? OptionalInt.of(port) : OptionalInt.empty();
  }

  /**
   * Waits for a connection.
   *
   * @param patienceNanos how long; negative: until one comes
   * @return a non-blocking descriptor, which is the caller's; -1 when the time is over or {@link
   *     #stop} was called
   */
  public int accept(long patienceNanos) throws IOException {
    while (!stopped) {
      int accepted = UnixSocket.accept(fd);
      if (accepted >= 0) {
        return accepted;
      }
      if (accepted != -Errno.EAGAIN && accepted != -Errno.ECONNABORTED) {
        throw new ErrnoException("accept", name, -accepted);
      }
      if (poll.await(patienceNanos) == 0 && patienceNanos >= 0) {
        return -1;
      }
    }
    return -1;
  }

  /** Makes {@link #accept} return, now and from now on. */
  public synchronized void stop() {
    stopped = true;
    if (!closed) {
      stopping.signal();
    }
  }

  @Override
  public synchronized void close() {
    if (closed) {
      return;
    }
    closed = true;
    FileDescriptors.close(fd);
    poll.close();
    stopping.close();
    if (path != null) {
      try {
        Files.deleteIfExists(path);
      } catch (IOException e) {
        // A name without a listener: the next one replaces it.
      }
    }
  }
}
