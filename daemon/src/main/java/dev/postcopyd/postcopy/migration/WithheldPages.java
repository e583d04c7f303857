package dev.postcopyd.postcopy.migration;

import dev.postcopyd.page.RamBlockTable;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;

/**
 * Which zero pages count as received but have not been sent, because nobody has asked for them: one
 * bit a page. Lock-free and safe for any thread; no method allocates.
 */
final class WithheldPages {
  private static final VarHandle WORD = MethodHandles.arrayElementVarHandle(long[].class);

  private final long[] withheld;

  WithheldPages(RamBlockTable table) {
    withheld = new long[Math.toIntExact((table.indexSpaceSize() + 63) >>> 6)];
  }

  void withhold(long firstPageIndex, int pageCount) {
    long pageIndex = firstPageIndex;
    int left = pageCount;
    while (left > 0) {
      int bit = (int) (pageIndex & 63);
      int run = Math.min(left, 64 - bit);
      long _ =
          (long)
              WORD.getAndBitwiseOr(withheld, (int) (pageIndex >>> 6), (-1L >>> (64 - run)) << bit);
      pageIndex += run;
      left -= run;
    }
  }

  /** Whether the page was withheld; it is not any more, so that only one caller sends it. */
  boolean take(long pageIndex) {
    int word = (int) (pageIndex >>> 6);
    long bit = 1L << pageIndex;
    return ((long) WORD.getVolatile(withheld, word) & bit) != 0
        && ((long) WORD.getAndBitwiseAnd(withheld, word, ~bit) & bit) != 0;
  }
}
