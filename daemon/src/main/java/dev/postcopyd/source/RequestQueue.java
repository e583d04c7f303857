package dev.postcopyd.source;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.stream.StreamFormat;
import java.nio.ByteBuffer;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * Requests for pages that have not been sent yet, in order; one that goes on where the last one
 * ends becomes part of it. Grows by doubling when more wait than ever before: no more than the
 * guest has pages. Thread-safe.
 */
final class RequestQueue {
  /** What one request asks for at most; whatever is asked for after it waits for all of it. */
  private static final int MAX_RUN_PAGES = 256;

  private static final int HEAD_BYTES = 2 + 2 + Long.BYTES + Integer.BYTES + 1;

  /** A request with the longest name. */
  static final int MAX_REQUEST_BYTES = HEAD_BYTES + StreamFormat.MAX_NAME_BYTES;

  private @Nullable RamBlock[] blocks = new @Nullable RamBlock[64];
  private long[] firstPages = new long[64];
  private int[] counts = new int[64];
  private int head;
  private int size;

  synchronized boolean isEmpty() {
    return size == 0;
  }

  synchronized void add(RamBlock block, long firstPageIndex, int pageCount) {
    if (size > 0) {
      int last = (head + size - 1) & (counts.length - 1);
      RamBlock before = blocks[last];
      if (before != null
          && before.index() == block.index()
          && firstPages[last] + counts[last] == firstPageIndex
          && counts[last] + pageCount <= MAX_RUN_PAGES) {
        counts[last] += pageCount;
        return;
      }
    }
    if (size == counts.length) {
      grow();
    }
    int at = (head + size) & (counts.length - 1);
    blocks[at] = block;
    firstPages[at] = firstPageIndex;
    counts[at] = pageCount;
    size++;
  }

  private void grow() {
    int length = counts.length;
    @Nullable RamBlock[] moreBlocks = new @Nullable RamBlock[2 * length];
    long[] moreFirstPages = new long[2 * length];
    int[] moreCounts = new int[2 * length];
    for (int i = 0; i < length; i++) {
      int from = (head + i) & (length - 1);
      moreBlocks[i] = blocks[from];
      moreFirstPages[i] = firstPages[from];
      moreCounts[i] = counts[from];
    }
    blocks = moreBlocks;
    firstPages = moreFirstPages;
    counts = moreCounts;
    head = 0;
  }

  synchronized void clear() {
    Arrays.fill(blocks, null);
    size = 0;
  }

  /**
   * Takes as many requests as there is room for, as messages of a return path.
   *
   * @param into big-endian, from index 0 on
   * @return how many bytes they take; 0 if there are none
   */
  synchronized int encode(ByteBuffer into) {
    int at = 0;
    while (size > 0 && into.capacity() - at >= MAX_REQUEST_BYTES) {
      RamBlock block = blocks[head];
      if (block == null) {
        throw new IllegalStateException("a request without a block");
      }
      at = encode(block, firstPages[head], counts[head], into, at);
      blocks[head] = null;
      head = (head + 1) & (counts.length - 1);
      size--;
    }
    return at;
  }

  /** Always with the block's name: the first request on a connection needs it. */
  private static int encode(RamBlock block, long firstPage, int count, ByteBuffer into, int at) {
    String name = block.name();
    int length = name.length();
    into.putShort(at, (short) StreamFormat.RETURN_REQ_PAGES_ID);
    into.putShort(at + 2, (short) (Long.BYTES + Integer.BYTES + 1 + length));
    into.putLong(at + 4, block.offsetOf(firstPage));
    into.putInt(at + 12, (int) block.hostPageSize().offsetOf(count));
    into.put(at + 16, (byte) length);
    for (int i = 0; i < length; i++) {
      into.put(at + HEAD_BYTES + i, (byte) name.charAt(i));
    }
    return at + HEAD_BYTES + length;
  }
}
