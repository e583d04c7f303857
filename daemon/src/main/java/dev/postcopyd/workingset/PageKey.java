package dev.postcopyd.workingset;

/**
 * A target page of a snapshot as one {@code long}: the block's position in the snapshot in the
 * upper bits, the page's index in the block in the lower 40. Neighbouring pages of a block have
 * neighbouring keys, and no two blocks have.
 */
final class PageKey {
  private static final int PAGE_BITS = 40;

  private PageKey() {}

  static long of(int blockIndex, long targetPage) {
    return (long) blockIndex << PAGE_BITS | targetPage;
  }

  static int blockIndex(long key) {
    return (int) (key >>> PAGE_BITS);
  }

  static long targetPage(long key) {
    return key & ((1L << PAGE_BITS) - 1);
  }
}
