package dev.postcopyd.page;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Some of the pages of a table: one bit a page, and how many there are. Lock-free and safe for any
 * thread; no method but {@link #of} allocates.
 */
public final class PageSet {
  private static final VarHandle WORD = MethodHandles.arrayElementVarHandle(long[].class);

  private final long[] words;
  private final AtomicLong size = new AtomicLong();

  /** An empty set of a table's pages. */
  public PageSet(RamBlockTable table) {
    words = new long[Math.toIntExact((table.indexSpaceSize() + 63) >>> 6)];
  }

  /** A copy of a set that nobody changes meanwhile. */
  public PageSet(PageSet other) {
    words = other.words.clone();
    size.set(other.size.get());
  }

  /** Adds a run of pages. */
  public void add(long firstPageIndex, long pageCount) {
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
      long _ = size.addAndGet(fresh);
    }
  }

  /** Adds a page; true for the one caller whose page it is. */
  public boolean add(long pageIndex) {
    long bit = 1L << pageIndex;
    boolean fresh = ((long) WORD.getAndBitwiseOr(words, (int) (pageIndex >>> 6), bit) & bit) == 0;
    if (fresh) {
      long _ = size.incrementAndGet();
    }
    return fresh;
  }

  /** Removes a run of pages. */
  public void remove(long firstPageIndex, long pageCount) {
    long page = firstPageIndex;
    long end = firstPageIndex + pageCount;
    while (page < end) {
      long bits = bits(page, end);
      long before = (long) WORD.getAndBitwiseAnd(words, (int) (page >>> 6), ~bits);
      long _ = size.addAndGet(-Long.bitCount(bits & before));
      page = (page | 63) + 1;
    }
  }

  /** Removes a page; true for the one caller who has removed it. */
  public boolean remove(long pageIndex) {
    int word = (int) (pageIndex >>> 6);
    long bit = 1L << pageIndex;
    boolean removed =
        ((long) WORD.getVolatile(words, word) & bit) != 0
            && ((long) WORD.getAndBitwiseAnd(words, word, ~bit) & bit) != 0;
    if (removed) {
      long _ = size.decrementAndGet();
    }
    return removed;
  }

  public boolean contains(long pageIndex) {
    return ((long) WORD.getVolatile(words, (int) (pageIndex >>> 6)) & (1L << pageIndex)) != 0;
  }

  /** The first page in {@code [fromPageIndex, endPageIndex)} that is in the set, or -1. */
  public long next(long fromPageIndex, long endPageIndex) {
    return next(fromPageIndex, endPageIndex, 0);
  }

  /** The first page in {@code [fromPageIndex, endPageIndex)} that is not in the set, or -1. */
  public long nextMissing(long fromPageIndex, long endPageIndex) {
    return next(fromPageIndex, endPageIndex, -1);
  }

  private long next(long fromPageIndex, long endPageIndex, long inverted) {
    long page = fromPageIndex;
    while (page < endPageIndex) {
      long rest = ((long) WORD.getVolatile(words, (int) (page >>> 6)) ^ inverted) >>> page;
      if (rest != 0) {
        page += Long.numberOfTrailingZeros(rest);
        return page < endPageIndex ? page : -1;
      }
      page = (page | 63) + 1;
    }
    return -1;
  }

  /** How many pages there are in the set. */
  public long count() {
    return size.get();
  }

  /** A copy of one block's bits. */
  public long[] of(RamBlock block) {
    int first = (int) (block.firstPageIndex() >>> 6);
    return Arrays.copyOfRange(words, first, first + (int) ((block.pageCount() + 63) >>> 6));
  }

  /** The bits of one word from a page on, up to an end. */
  private static long bits(long page, long end) {
    long from = -1L << page;
    return end > (page | 63) ? from : from & (-1L >>> -end);
  }
}
