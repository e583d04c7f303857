package dev.postcopyd.app;

import dev.postcopyd.posix.StreamSocket;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;

/**
 * The lines that a relay of postcopyd-qemu says, one after the other. Used by one thread; does not
 * own the socket.
 */
final class RelayLines implements AutoCloseable {
  private final StreamSocket socket;
  private final Arena arena = Arena.ofConfined();
  private final MemorySegment bytes;
  private long length;

  /**
   * @param maxBytes longer is none
   */
  RelayLines(StreamSocket socket, int maxBytes) {
    this.socket = socket;
    this.bytes = arena.allocate(maxBytes);
  }

  /** Whether there is something to read within so long; the end is something, too. */
  boolean await(long nanos) throws IOException {
    return length > 0 || !socket.isQuietFor(nanos);
  }

  /**
   * Reads the next line.
   *
   * @param nanos how long each part of it may take
   * @throws IOException if none comes, or the relay is gone
   */
  String next(long nanos) throws IOException {
    while (true) {
      for (long at = 0; at < length; at++) {
        if (bytes.get(ValueLayout.JAVA_BYTE, at) == '\n') {
          return take(at);
        }
      }
      if (length == bytes.byteSize()) {
        throw new IOException("too long a line");
      }
      if (socket.isQuietFor(nanos)) {
        throw new IOException("nothing was asked for");
      }
      long got = socket.receive(bytes.address() + length, bytes.byteSize() - length);
      if (got == 0) {
        throw new IOException("the relay is gone");
      }
      length += got;
    }
  }

  private String take(long end) {
    String line =
        new String(bytes.asSlice(0, end).toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
    length -= end + 1;
    MemorySegment.copy(bytes, end + 1, bytes, 0, length);
    return line;
  }

  @Override
  public void close() {
    arena.close();
  }
}
