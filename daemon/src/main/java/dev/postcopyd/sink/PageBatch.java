package dev.postcopyd.sink;

import dev.postcopyd.stream.PageBuffer;
import java.nio.ByteBuffer;
import org.jspecify.annotations.Nullable;

/**
 * Pages of one channel that are to be written, in order: where they go, and where in a buffer they
 * lie. Filled by the channel's thread, emptied by the writer's, never both at once.
 */
final class PageBatch {
  /** More would make the list larger than what it lists. */
  private static final int MAX_RUNS = 2048;

  private static final int HEAD_BYTES = 3 * Integer.BYTES;
  private static final int RUN_BYTES = 1 + Long.BYTES + 4 * Integer.BYTES;

  /** What a run is. */
  enum Kind {
    DATA((byte) 0),
    ZERO((byte) 1),
    DELTA((byte) 2);

    private final byte code;

    Kind(byte code) {
      this.code = code;
    }
  }

  private static final Kind[] BY_CODE = {Kind.DATA, Kind.ZERO, Kind.DELTA};

  private final byte[] kinds = new byte[MAX_RUNS];
  private final int[] blocks = new int[MAX_RUNS];
  private final long[] firstPages = new long[MAX_RUNS];
  private final int[] counts = new int[MAX_RUNS];
  private final int[] positions = new int[MAX_RUNS];
  private final int[] strides = new int[MAX_RUNS];
  private int runs;

  /** Whose bytes the runs refer to; null if they refer to none, or came from the spill file. */
  @Nullable SharedBuffer buffer;

  /** Whether it has come back from the spill file. */
  boolean spilled;

  int from = PageBuffer.BYTES;
  int to;

  boolean isEmpty() {
    return runs == 0;
  }

  boolean isFull() {
    return runs == MAX_RUNS;
  }

  int runs() {
    return runs;
  }

  void clear() {
    runs = 0;
    from = PageBuffer.BYTES;
    to = 0;
    buffer = null;
    spilled = false;
  }

  /**
   * Adds a run.
   *
   * @param count pages; of a delta, its length in bytes
   * @param position in the buffer; -1 if there is nothing
   * @param end one past the run's last byte in the buffer
   */
  void add(Kind kind, int block, long firstPage, int count, int position, int stride, int end) {
    kinds[runs] = kind.code;
    blocks[runs] = block;
    firstPages[runs] = firstPage;
    counts[runs] = count;
    positions[runs] = position;
    strides[runs] = stride;
    runs++;
    if (position >= 0) {
      from = Math.min(from, position);
      to = Math.max(to, end);
    }
  }

  /** How much {@link #encode} writes. */
  int encodedBytes() {
    return HEAD_BYTES + runs * RUN_BYTES;
  }

  /** Writes the list down, for {@link #decode}. */
  void encode(ByteBuffer out) {
    out.putInt(runs).putInt(from).putInt(to);
    for (int run = 0; run < runs; run++) {
      out.put(kinds[run]).putLong(firstPages[run]).putInt(blocks[run]);
      out.putInt(counts[run]).putInt(positions[run]).putInt(strides[run]);
    }
  }

  /** Takes a list that was written down, into an empty batch. */
  void decode(ByteBuffer in) {
    runs = in.getInt();
    from = in.getInt();
    to = in.getInt();
    for (int run = 0; run < runs; run++) {
      kinds[run] = in.get();
      firstPages[run] = in.getLong();
      blocks[run] = in.getInt();
      counts[run] = in.getInt();
      positions[run] = in.getInt();
      strides[run] = in.getInt();
    }
  }

  Kind kind(int run) {
    return BY_CODE[kinds[run]];
  }

  int block(int run) {
    return blocks[run];
  }

  long firstPage(int run) {
    return firstPages[run];
  }

  int count(int run) {
    return counts[run];
  }

  int position(int run) {
    return positions[run];
  }

  int stride(int run) {
    return strides[run];
  }
}
