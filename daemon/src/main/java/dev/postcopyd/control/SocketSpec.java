package dev.postcopyd.control;

import java.net.InetSocketAddress;
import java.util.Optional;

/**
 * Where a QMP socket listens, in the syntax of QEMU's {@code -qmp} option: {@code
 * unix:/path,server=on,wait=off}, {@code tcp:127.0.0.1:4444}, {@code tcp:[::1]:4444} or {@code
 * fd=N} for a socket that already listens. Over TCP either {@code tls-creds=DIR} or, on the
 * loopback interface only, {@code insecure=on} has to say how clients are known.
 *
 * <p>As with QEMU, a comma in a path is written twice. Unlike QEMU, {@code server=on,wait=off} is
 * what a spec without options means: postcopyd serves, and never waits for a client.
 */
public sealed interface SocketSpec {

  /**
   * A unix socket to be created.
   *
   * @param path its file, at most {@value #MAX_UNIX_PATH_BYTES} bytes
   * @param mode permission bits of the file
   * @param group name or number of the file's group; empty leaves the process's own
   */
  record Unix(String path, int mode, Optional<String> group) implements SocketSpec {
    @Override
    public String toString() {
      return "unix:" + path;
    }
  }

  /**
   * A TCP address to listen on; port 0 lets the kernel choose. An empty host means every address of
   * the machine.
   */
  record Tcp(String host, int port, Protection protection) implements SocketSpec {
    /** Resolves the host by the system's resolver; may block. */
    InetSocketAddress address() {
      return host.isEmpty() ? new InetSocketAddress(port) : new InetSocketAddress(host, port);
    }

    @Override
    public String toString() {
      return "tcp:" + (host.indexOf(':') < 0 ? host : "[" + host + "]") + ":" + port;
    }
  }

  /** An inherited socket, unix or TCP, that already listens. Taken over: closed with the server. */
  record Inherited(int fd, Protection protection) implements SocketSpec {
    @Override
    public String toString() {
      return "fd=" + fd;
    }
  }

  /**
   * How it is known over TCP who commands. Without either, nobody is let in.
   *
   * @param credentials a directory with {@code ca-cert.pem}, {@code server-cert.pem} and {@code
   *     server-key.pem}: clients show a certificate that the authority has signed
   * @param isInsecure everybody who can reach the address may command; on the loopback interface
   *     only
   */
  record Protection(Optional<String> credentials, boolean isInsecure) {
    static final Protection NOTHING_SAID = new Protection(Optional.empty(), false);
  }

  /** The kernel's {@code sun_path} has 108 bytes, one of them for the terminating NUL. */
  int MAX_UNIX_PATH_BYTES = 107;

  /** Owner only: whoever reaches the socket commands the daemon. */
  int DEFAULT_UNIX_MODE = 0600;

  /**
   * Parses one spec.
   *
   * @throws IllegalArgumentException with a sentence for the user that names what is wrong
   */
  static SocketSpec parse(String spec) {
    return new SocketSpecParser(spec).parse();
  }
}
