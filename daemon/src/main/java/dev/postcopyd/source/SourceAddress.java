package dev.postcopyd.source;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.SocketListener;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.tls.TlsCredentials;
import dev.postcopyd.tls.TlsTunnel;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.Optional;
import java.util.OptionalInt;
import org.jspecify.annotations.Nullable;

/** Where a migration source comes to. Immutable. */
public sealed interface SourceAddress {
  /**
   * Parses {@code tcp:HOST:PORT} and {@code unix:PATH}; descriptors have to be looked up by whoever
   * has them.
   *
   * @throws IllegalArgumentException with a sentence for the user
   */
  static SourceAddress parse(String uri) {
    if (uri.startsWith("unix:") && uri.length() > "unix:".length() && uri.indexOf('\0') < 0) {
      return new Unix(Path.of(uri.substring("unix:".length())));
    }
    int colon = uri.lastIndexOf(':');
    if (uri.startsWith("tcp:") && colon >= "tcp:".length()) {
      String host = uri.substring("tcp:".length(), colon);
      if (host.startsWith("[") && host.endsWith("]")) {
        host = host.substring(1, host.length() - 1);
      }
      try {
        int port = Integer.parseInt(uri.substring(colon + 1));
        if (port >= 0 && port <= 65535) {
          return new Tcp(host, port);
        }
      } catch (NumberFormatException e) {
        // said below
      }
    }
    throw new IllegalArgumentException(
        "a migration is received at tcp:HOST:PORT or unix:PATH, not at '" + uri + "'");
  }

  /** Begins to listen, or takes the connection. */
  Open open() throws IOException;

  /** Gives back what the address holds, if it is not going to be opened. */
  default void discard() {}

  /** The place alone. */
  default SourceAddress place() {
    return this;
  }

  /** This place, secured if and as another address is. */
  default SourceAddress securedLike(SourceAddress other) {
    return other instanceof Secured secured ? secured(secured.credentials) : this;
  }

  /** The same place, where sources are to speak TLS. */
  default SourceAddress secured(TlsCredentials credentials) {
    return new Secured(this, credentials);
  }

  /** This place, secured unless it is already. */
  default SourceAddress securedIfPlain(Optional<TlsCredentials> credentials) {
    return credentials.map(this::secured).orElse(this);
  }

  /** A TCP socket; port 0 lets the kernel choose. */
  record Tcp(String host, int port) implements SourceAddress {
    @Override
    public Open open() throws IOException {
      InetSocketAddress address =
          host.isEmpty() ? new InetSocketAddress(port) : new InetSocketAddress(host, port);
      return new Open(SocketListener.tcp(address), null, null);
    }

    @Override
    public String toString() {
      return "tcp:" + (host.indexOf(':') >= 0 ? "[" + host + "]" : host) + ":" + port;
    }
  }

  /** A unix socket, which only its owner may connect to. */
  record Unix(Path path) implements SourceAddress {
    @Override
    public Open open() throws IOException {
      return new Open(SocketListener.unix(path), null, null);
    }

    @Override
    public String toString() {
      return "unix:" + path;
    }
  }

  /** A connected socket that a client has handed over; owned by the address. */
  record Connected(int fd, String name) implements SourceAddress {
    @Override
    public Open open() throws IOException {
      return new Open(null, StreamSocket.adopt(fd, "fd:" + name), null);
    }

    @Override
    public void discard() {
      FileDescriptors.close(fd);
    }

    @Override
    public String toString() {
      return "fd:" + name;
    }
  }

  /** Another address, whose connections are encrypted. */
  record Secured(SourceAddress address, TlsCredentials credentials) implements SourceAddress {
    @Override
    public Open open() throws IOException {
      if (address instanceof Connected connected) {
        String name = connected.toString();
        int fd = TlsTunnel.accept(connected.fd, name, credentials);
        return new Open(null, StreamSocket.adopt(fd, name), credentials);
      }
      return new Open(address.open().listener(), null, credentials);
    }

    @Override
    public SourceAddress place() {
      return address;
    }

    @Override
    public SourceAddress securedIfPlain(Optional<TlsCredentials> others) {
      return this;
    }

    @Override
    public void discard() {
      address.discard();
    }

    @Override
    public String toString() {
      return address.toString();
    }
  }

  /** Nobody has said where the source is to come to. */
  record Unknown() implements SourceAddress {
    @Override
    public Open open() throws IOException {
      throw new IOException("name tcp:HOST:PORT or unix:PATH for the source to come to");
    }

    @Override
    public String toString() {
      return "an unknown place";
    }
  }

  /** An address in use: one of the two is there. Owned by whoever gets it. */
  final class Open implements AutoCloseable {
    private final @Nullable SocketListener listener;
    private final @Nullable StreamSocket connected;
    private final @Nullable TlsCredentials credentials;

    Open(
        @Nullable SocketListener listener,
        @Nullable StreamSocket connected,
        @Nullable TlsCredentials credentials) {
      this.listener = listener;
      this.connected = connected;
      this.credentials = credentials;
    }

    /** A connection that has been accepted, as one that a migration is read from. */
    StreamSocket take(int fd, String name) throws IOException {
      return StreamSocket.adopt(
          credentials == null ? fd : TlsTunnel.accept(fd, name, credentials), name);
    }

    @Nullable SocketListener listener() {
      return listener;
    }

    Optional<StreamSocket> connected() {
      return Optional.ofNullable(connected);
    }

    /** Nobody is going to use it. */
    @Override
    public void close() {
      if (listener != null) {
        listener.stop();
        listener.close();
      }
      if (connected != null) {
        connected.close();
      }
    }

    /** The port that it listens on, if it is a TCP socket. */
    public OptionalInt port() {
      SocketListener of = listener;
      return of == null ? OptionalInt.empty() : of.port();
    }
  }
}
