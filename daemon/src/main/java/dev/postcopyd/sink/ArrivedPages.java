package dev.postcopyd.sink;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Which pages have come at least once, and are not out of date: one bit a target page. Lock-free
 * and safe for any thread.
 */
final class ArrivedPages {
  private static final VarHandle WORD = MethodHandles.arrayElementVarHandle(long[].class);

  private final long[] words;
  private final AtomicLong arrived = new AtomicLong();

  ArrivedPages(RamBlockTable table) {
    words = new long[Math.toIntExact((table.indexSpaceSize() + 63) >>> 6)];
  }

  /** Pages have come. */
  void add(long firstPageIndex, long pageCount) {
    long fresh = 0;
    long page = firstPageIndex;
    long end = firstPageIndex + pageCount;
    while (page < end) {
      long bits = bits(page, end);
      long before = (long) WORD.getOpaque(words, (int) (page >>> 6));
      if ((before & bits) != bits) {
        before = (long) WORD.getAndBitwiseOr(words, (int) (page >>> 6), bits);
        fresh += Long.bitCount(bits & ~before);
      }
      page = (page | 63) + 1;
    }
    if (fresh > 0) {
      long _ = arrived.addAndGet(fresh);
    }
  }

  /** Pages are out of date. */
  void remove(long firstPageIndex, long pageCount) {
    long page = firstPageIndex;
    long end = firstPageIndex + pageCount;
    while (page < end) {
      long bits = bits(page, end);
      long before = (long) WORD.getAndBitwiseAnd(words, (int) (page >>> 6), ~bits);
      long _ = arrived.addAndGet(-Long.bitCount(bits & before));
      page = (page | 63) + 1;
    }
  }

  /** How many pages have come. */
  long count() {
    return arrived.get();
  }

  /** A copy of one block's bits. */
  long[] of(RamBlock block) {
    int first = (int) (block.firstPageIndex() >>> 6);
    return Arrays.copyOfRange(words, first, first + (int) ((block.pageCount() + 63) >>> 6));
  }

  /** The bits of one word from a page on, up to an end. */
  private static long bits(long page, long end) {
    long from = -1L << page;
    return end > (page | 63) ? from : from & (-1L >>> -end);
  }
}
