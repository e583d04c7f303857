package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;

/**
 * Who may fetch a page: one bit a page, set while nobody has claimed it.
 *
 * <p>The bit's owner is whoever cleared it; that one, and nobody else, fetches the page. A fetch
 * that failed gives the claim back with {@link #release}. Lock-free and safe for any thread; no
 * method allocates. 32 KiB for each GiB of 4 KiB pages.
 */
public final class ClaimBitmap {
  // A VarHandle is compiled to a plain atomic instruction only when it is a static final constant.
  private static final VarHandle WORD = MethodHandles.arrayElementVarHandle(long[].class);

  private final long[] unclaimed;

  /** A bitmap in which every page of every block is unclaimed. */
  public ClaimBitmap(RamBlockTable table) {
    this(new long[words(table)]);
    for (RamBlock block : table.blocks()) {
      release(block.firstPageIndex(), block.pageCount());
    }
  }

  private ClaimBitmap(long[] unclaimed) {
    this.unclaimed = unclaimed;
  }

  /** A bitmap in which no page is to be had until it is released. */
  public static ClaimBitmap allClaimed(RamBlockTable table) {
    return new ClaimBitmap(new long[words(table)]);
  }

  private static int words(RamBlockTable table) {
    return Math.toIntExact((table.indexSpaceSize() + 63) >>> 6);
  }

  /** Claims one page; true if the caller is now the one who fetches it. */
  public boolean tryClaim(long pageIndex) {
    int word = (int) (pageIndex >>> 6);
    long bit = 1L << pageIndex;
    // Looking first keeps the cache line shared in the common case that the loader has been here.
    return ((long) WORD.getOpaque(unclaimed, word) & bit) != 0
        && ((long) WORD.getAndBitwiseAnd(unclaimed, word, ~bit) & bit) != 0;
  }

  /**
   * Claims the run of unclaimed pages that starts at {@code firstPageIndex}.
   *
   * @return how many pages the caller now owns, at most {@code limit}; 0 if the first is not to be
   *     had
   */
  public int tryClaimRun(long firstPageIndex, int limit) {
    int claimed = 0;
    while (claimed < limit) {
      long pageIndex = firstPageIndex + claimed;
      int word = (int) (pageIndex >>> 6);
      if (word == unclaimed.length) {
        break;
      }
      int wanted = Math.min(limit - claimed, 64 - (int) (pageIndex & 63));
      int got = tryClaimInWord(word, (int) (pageIndex & 63), wanted);
      claimed += got;
      if (got < wanted) {
        break;
      }
    }
    return claimed;
  }

  private int tryClaimInWord(int word, int bit, int wanted) {
    while (true) {
      long before = (long) WORD.getVolatile(unclaimed, word);
      int run = Math.min(wanted, Long.numberOfTrailingZeros(~(before >>> bit)));
      if (run == 0) {
        return 0;
      }
      if (WORD.compareAndSet(unclaimed, word, before, before & ~(mask(run) << bit))) {
        return run;
      }
    }
  }

  /** Gives claimed pages back, so that somebody may fetch them (again). */
  public void release(long firstPageIndex, long pageCount) {
    long pageIndex = firstPageIndex;
    long left = pageCount;
    while (left > 0) {
      int bit = (int) (pageIndex & 63);
      int run = (int) Math.min(left, 64 - bit);
      long _ = (long) WORD.getAndBitwiseOr(unclaimed, (int) (pageIndex >>> 6), mask(run) << bit);
      pageIndex += run;
      left -= run;
    }
  }

  /** The first unclaimed page in {@code [fromPageIndex, endPageIndex)}, or -1. */
  public long nextUnclaimed(long fromPageIndex, long endPageIndex) {
    long pageIndex = fromPageIndex;
    while (pageIndex < endPageIndex) {
      long rest = (long) WORD.getOpaque(unclaimed, (int) (pageIndex >>> 6)) >>> pageIndex;
      if (rest != 0) {
        pageIndex += Long.numberOfTrailingZeros(rest);
        return pageIndex < endPageIndex ? pageIndex : -1;
      }
      pageIndex = (pageIndex | 63) + 1;
    }
    return -1;
  }

  private static long mask(int bits) {
    return -1L >>> (64 - bits);
  }
}
