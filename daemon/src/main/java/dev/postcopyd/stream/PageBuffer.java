package dev.postcopyd.stream;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * A piece of native memory that a channel's bytes are received into, and in which decoders and
 * writers look at them. Owned by one thread at a time; whoever hands it on, hands on all of it.
 */
public final class PageBuffer implements AutoCloseable {
  /** What one takes. */
  public static final int BYTES = 1 << 20;

  private static final int ALIGNMENT = 4096;

  private final Arena arena = Arena.ofShared();
  private final MemorySegment segment = arena.allocate(BYTES, ALIGNMENT);
  private final ByteBuffer bytes = segment.asByteBuffer().order(ByteOrder.BIG_ENDIAN);
  private final long address = segment.address();

  /** The memory as a buffer, read by position; big-endian, as everything on a stream is. */
  public ByteBuffer bytes() {
    return bytes;
  }

  /** Where the memory begins. */
  public long address() {
    return address;
  }

  /** Takes bytes of another buffer over, to the beginning of this one; both may be the same. */
  public void keep(PageBuffer other, int from, int length) {
    bytes.put(0, other.bytes, from, length);
  }

  @Override
  public void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
