package dev.postcopyd.guest;

import dev.postcopyd.posix.SocketConnector;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;

/**
 * Where a migration destination waits, in QEMU's URI syntax: {@code tcp:HOST:PORT}, {@code
 * unix:PATH}, {@code fd:N} for a connected socket that the daemon has inherited, or {@code fd:NAME}
 * for one that a client hands over with getfd.
 */
public sealed interface StreamAddress {
  /** A TCP socket; the host is looked up at each connection. */
  record Tcp(String host, int port) implements StreamAddress {
    @Override
    public String toString() {
      return "tcp:" + (host.indexOf(':') >= 0 ? "[" + host + "]" : host) + ":" + port;
    }
  }

  /** A unix socket. */
  record Unix(Path path) implements StreamAddress {
    @Override
    public String toString() {
      return "unix:" + path;
    }
  }

  /** A socket that is connected already, to be had by its number; its owner is the address's. */
  record Connected(int fd) implements StreamAddress {
    @Override
    public String toString() {
      return "fd:" + fd;
    }
  }

  /** A connected socket that is known by a name; somebody has to look it up. */
  record Named(String name) implements StreamAddress {
    @Override
    public String toString() {
      return "fd:" + name;
    }
  }

  /**
   * Parses a URI.
   *
   * @throws IllegalArgumentException with a sentence for the user
   */
  static StreamAddress parse(String uri) {
    if (uri.startsWith("unix:") && uri.length() > "unix:".length()) {
      try {
        return new Unix(Path.of(uri.substring("unix:".length())));
      } catch (InvalidPathException e) {
        throw new IllegalArgumentException("not a path: " + uri, e);
      }
    }
    if (uri.startsWith("tcp:")) {
      return tcp(uri, uri.substring("tcp:".length()));
    }
    if (uri.startsWith("fd:") && uri.length() > "fd:".length()) {
      String name = uri.substring("fd:".length());
      return name.chars().allMatch(character -> character >= '0' && character <= '9')
              && name.length() < 10
          ? new Connected(Integer.parseInt(name))
          : new Named(name);
    }
    throw new IllegalArgumentException(
        "a destination is tcp:HOST:PORT, unix:PATH or fd:NAME, not '" + uri + "'");
  }

  private static StreamAddress tcp(String uri, String address) {
    int colon = address.lastIndexOf(':');
    String host = colon < 0 ? "" : address.substring(0, colon);
    if (host.startsWith("[") && host.endsWith("]")) {
      host = host.substring(1, host.length() - 1);
    }
    try {
      int port = Integer.parseInt(address.substring(colon + 1));
      if (!host.isEmpty() && port >= 1 && port <= 65535) {
        return new Tcp(host, port);
      }
    } catch (NumberFormatException e) {
      // said below
    }
    throw new IllegalArgumentException("expected tcp:HOST:PORT, not '" + uri + "'");
  }

  /** Connects; the caller owns the socket. */
  default int connect(SocketConnector connector) throws IOException {
    return switch (this) {
      case Tcp tcp -> connector.connect(new InetSocketAddress(tcp.host, tcp.port));
      case Unix unix -> connector.connect(unix.path);
      case Connected connected -> connected.fd;
      case Named named ->
          throw new IOException(
              "nobody has handed over a socket by the name of '" + named.name + "' with getfd");
    };
  }
}
