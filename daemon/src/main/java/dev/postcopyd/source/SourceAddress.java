package dev.postcopyd.source;

import dev.postcopyd.posix.SocketListener;
import dev.postcopyd.posix.StreamSocket;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/** Where a migration source comes to. Immutable. */
public sealed interface SourceAddress {
  /** Begins to listen, or takes the connection. */
  Open open() throws IOException;

  /** Gives back what the address holds, if it is not going to be opened. */
  default void discard() {}

  /** A TCP socket; port 0 lets the kernel choose. */
  record Tcp(String host, int port) implements SourceAddress {
    @Override
    public Open open() throws IOException {
      InetSocketAddress address =
          host.isEmpty() ? new InetSocketAddress(port) : new InetSocketAddress(host, port);
      return new Open(SocketListener.tcp(address), null);
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
      return new Open(SocketListener.unix(path), null);
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
      return new Open(null, StreamSocket.adopt(fd, "fd:" + name));
    }

    @Override
    public void discard() {
      dev.postcopyd.posix.FileDescriptors.close(fd);
    }

    @Override
    public String toString() {
      return "fd:" + name;
    }
  }

  /** An address in use: one of the two is there. Owned by whoever gets it. */
  final class Open {
    private final @Nullable SocketListener listener;
    private final @Nullable StreamSocket connected;

    Open(@Nullable SocketListener listener, @Nullable StreamSocket connected) {
      this.listener = listener;
      this.connected = connected;
    }

    @Nullable SocketListener listener() {
      return listener;
    }

    Optional<StreamSocket> connected() {
      return Optional.ofNullable(connected);
    }

    /** The port that it listens on, if it is a TCP socket. */
    public Optional<Integer> port() {
      SocketListener of = listener;
      return of == null || of.port().isEmpty()
          ? Optional.empty()
          : Optional.of(of.port().getAsInt());
    }
  }
}
