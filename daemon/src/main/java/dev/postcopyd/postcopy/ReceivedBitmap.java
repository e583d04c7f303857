package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlockTable;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;

/**
 * Which pages are in the guest: one bit a page, set after placement and never cleared.
 *
 * <p>Progress, completion and recovery come from here, never from claims: a claimed page may still
 * fail to arrive. Lock-free and safe for any thread; no method allocates. 32 KiB for each GiB of 4
 * KiB pages.
 */
public final class ReceivedBitmap {
  private static final VarHandle WORD = MethodHandles.arrayElementVarHandle(long[].class);

  private final long[] received;

  public ReceivedBitmap(RamBlockTable table) {
    received = new long[Math.toIntExact((table.indexSpaceSize() + 63) >>> 6)];
  }

  public boolean isReceived(long pageIndex) {
    return ((long) WORD.getVolatile(received, (int) (pageIndex >>> 6)) & (1L << pageIndex)) != 0;
  }

  /** 64 pages at once: bit {@code i} is page {@code 64 * word + i}. */
  long word(int word) {
    return (long) WORD.getOpaque(received, word);
  }

  /** How many of up to 64 pages that lie in one word are in the guest. */
  int countReceived(long firstPageIndex, int pageCount) {
    long bits = (-1L >>> (64 - pageCount)) << firstPageIndex;
    return Long.bitCount((long) WORD.getVolatile(received, (int) (firstPageIndex >>> 6)) & bits);
  }

  /**
   * Marks pages that have just been placed.
   *
   * @return how many of them were not marked before
   */
  public int markReceived(long firstPageIndex, int pageCount) {
    int fresh = 0;
    long pageIndex = firstPageIndex;
    int left = pageCount;
    while (left > 0) {
      int bit = (int) (pageIndex & 63);
      int run = Math.min(left, 64 - bit);
      long bits = (-1L >>> (64 - run)) << bit;
      long before = (long) WORD.getAndBitwiseOr(received, (int) (pageIndex >>> 6), bits);
      fresh += Long.bitCount(bits & ~before);
      pageIndex += run;
      left -= run;
    }
    return fresh;
  }
}
