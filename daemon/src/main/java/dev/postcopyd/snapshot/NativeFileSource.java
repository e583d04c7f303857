package dev.postcopyd.snapshot;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamSource;
import java.io.IOException;
import java.lang.foreign.MemorySegment;

/**
 * A file as the decoder reads it. Lives as long as one parse: it owns a buffer, and not the file.
 * Confined to the thread that made it.
 */
final class NativeFileSource implements StreamSource, AutoCloseable {
  private static final int BUFFER_BYTES = 256 << 10;

  private final NativeFile file;
  private final long sizeBytes;

  /** A mapping, because most snapshots need little of it: an allocation would be zeroed. */
  private final MemoryMapping mapping;

  private final MemorySegment buffer;

  NativeFileSource(NativeFile file) throws IOException {
    this.file = file;
    this.sizeBytes = file.sizeBytes();
    this.mapping = MemoryMapping.anonymous(BUFFER_BYTES);
    this.buffer = mapping.asSegment();
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
    mapping.close();
  }
}
