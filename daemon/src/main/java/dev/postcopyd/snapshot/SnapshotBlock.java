package dev.postcopyd.snapshot;

import dev.postcopyd.page.PageSize;

/**
 * One RAM block of a snapshot: its size, where its pages lie, and which of them are stored.
 *
 * <p>Immutable and safe for any thread. Pages are target pages (the file's unit). A page that is
 * not stored is all zero and the file's bytes at its place mean nothing: they are never looked at.
 */
public final class SnapshotBlock {
  private final String name;
  private final long usedLengthBytes;
  private final PageSize targetPageSize;
  private final long pagesOffsetBytes;
  private final long[] storedBits;
  private final long storedPages;

  /**
   * Takes ownership of {@code storedBits}: bit {@code i & 63} of word {@code i >>> 6} is page
   * {@code i}; bits beyond the last page are clear.
   */
  public SnapshotBlock(
      String name,
      long usedLengthBytes,
      PageSize targetPageSize,
      long pagesOffsetBytes,
      long[] storedBits) {
    this.name = name;
    this.usedLengthBytes = usedLengthBytes;
    this.targetPageSize = targetPageSize;
    this.pagesOffsetBytes = pagesOffsetBytes;
    this.storedBits = storedBits;
    long stored = 0;
    for (long word : storedBits) {
      stored += Long.bitCount(word);
    }
    this.storedPages = stored;
  }

  public String name() {
    return name;
  }

  public long usedLengthBytes() {
    return usedLengthBytes;
  }

  public PageSize targetPageSize() {
    return targetPageSize;
  }

  /** Absolute file offset of page 0. */
  public long pagesOffsetBytes() {
    return pagesOffsetBytes;
  }

  public long pageCount() {
    return targetPageSize.pagesIn(usedLengthBytes);
  }

  /** How many pages the file stores; the others are zero. */
  public long storedPages() {
    return storedPages;
  }

  /** The bits themselves, not to be written to. */
  long[] storedBits() {
    return storedBits;
  }

  public boolean isStored(long targetPage) {
    return (storedBits[(int) (targetPage >>> 6)] & (1L << targetPage)) != 0;
  }

  /**
   * How many pages from {@code targetPage} on are of its kind (stored, or zero), at most {@code
   * limit}. At least 1.
   */
  public long runLength(long targetPage, long limit) {
    long end = Math.min(targetPage + limit, pageCount());
    boolean stored = isStored(targetPage);
    long page = targetPage;
    while (page < end) {
      long word = storedBits[(int) (page >>> 6)];
      long differing = (stored ? ~word : word) >>> page;
      if (differing != 0) {
        page += Long.numberOfTrailingZeros(differing);
        break;
      }
      page = (page | 63) + 1;
    }
    return Math.min(page, end) - targetPage;
  }
}
