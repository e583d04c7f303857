package dev.postcopyd.snapshot;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamSource;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A file as the decoder reads it. Lives as long as one parse: it owns a buffer, and not the file.
 * Confined to the thread that made it.
 */
final class NativeFileSource implements StreamSource, AutoCloseable {
  /** No more than a parse touches again and again: each page of it is a page fault. */
  private static final int BUFFER_BYTES = 64 << 10;

  private final NativeFile file;
  private final long sizeBytes;
  private final Arena arena = Arena.ofConfined();
  private final MemorySegment buffer = arena.allocate(BUFFER_BYTES);

  NativeFileSource(NativeFile file) throws IOException {
    this.file = file;
    this.sizeBytes = file.sizeBytes();
  }

  @Override
  public long sizeBytes() {
    return sizeBytes;
  }

  @Override
  public int readAt(long offsetBytes, byte[] into, int from, int length) throws IOException {
    int done = 0;
    while (done < length) {
      long count =
          file.readAt(buffer.address(), Math.min(BUFFER_BYTES, length - done), offsetBytes + done);
      if (count == 0) {
        break;
      }
      MemorySegment.copy(buffer, JAVA_BYTE, 0, into, from + done, (int) count);
      done += (int) count;
    }
    return done;
  }

  @Override
  public void close() {
    arena.close();
  }
}
