package dev.postcopyd.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;

/**
 * A handler's end of the conversation that {@code wire.h} describes. {@link #send} may be called by
 * any thread, everything else by one.
 */
final class ClientConnection implements AutoCloseable {
  private static final long HELLO_MAGIC = 0x31464655594443L;
  private static final int HELLO_BYTES = 4 * Long.BYTES;

  /** What the client wants to be served; the descriptor is the caller's. */
  record Hello(int userfaultfd, long address, long lengthBytes, long pageSizeBytes) {}

  private final int socket;
  private final Hello hello;

  private ClientConnection(int socket, Hello hello) {
    this.socket = socket;
    this.hello = hello;
  }

  /** Listens, says so on standard output, and takes the one client. */
  static ClientConnection accept(Path path) throws IOException {
    int listener = UnixSocket.listen(path, 0600, 1);
    try {
      System.out.println("ready");
      awaitReadable(listener);
      int socket = UnixSocket.accept(listener);
      if (socket < 0) {
        throw new IOException("accept on " + path + " answers " + socket);
      }
      return new ClientConnection(socket, readHello(socket));
    } finally {
      FileDescriptors.close(listener);
    }
  }

  private static Hello readHello(int socket) throws IOException {
    awaitReadable(socket);
    int[] fds = new int[1];
    try (Arena arena = Arena.ofConfined();
        FdPassing passing = new FdPassing(1)) {
      MemorySegment bytes = arena.allocate(HELLO_BYTES, Long.BYTES);
      int count = passing.receive(socket, bytes.address(), HELLO_BYTES, fds);
      if (count != HELLO_BYTES
          || passing.fdCount() != 1
          || bytes.get(JAVA_LONG, 0) != HELLO_MAGIC) {
        throw new IOException("no hello from the client");
      }
      return new Hello(
          fds[0], bytes.get(JAVA_LONG, 8), bytes.get(JAVA_LONG, 16), bytes.get(JAVA_LONG, 24));
    }
  }

  private static void awaitReadable(int fd) throws IOException {
    try (Poll poll = Poll.readable(fd)) {
      while (poll.await(-1) == 0) {
        // a signal came
      }
    }
  }

  Hello hello() {
    return hello;
  }

  void send(char message) {
    try (FdPassing passing = new FdPassing(1)) {
      int _ = passing.send(socket, new byte[] {(byte) message});
    }
  }

  /** The client's next byte, or -1 at its end. */
  int receive() throws IOException {
    awaitReadable(socket);
    try (Arena arena = Arena.ofConfined();
        FdPassing passing = new FdPassing(1)) {
      MemorySegment bytes = arena.allocate(1);
      int count = passing.receive(socket, bytes.address(), 1, new int[1]);
      return count == 1 ? bytes.get(java.lang.foreign.ValueLayout.JAVA_BYTE, 0) : -1;
    }
  }

  @Override
  public void close() {
    FileDescriptors.close(socket);
  }
}
