package dev.postcopyd.page;

/**
 * A page size, always a power of two, and every shift, mask and rounding that is made with one.
 *
 * <p>Immutable. Host page sizes (what the guest's memory is backed by: 4 KiB, or 2 MiB on hugetlb)
 * and target page sizes (the unit of a snapshot or a migration stream: 4 KiB on x86) are both page
 * sizes; variables say which of the two they hold.
 *
 * @param shift log2 of the size in bytes, 9 to 40
 */
public record PageSize(int shift) {
  public static final PageSize SIZE_4K = new PageSize(12);
  public static final PageSize SIZE_2M = new PageSize(21);

  public PageSize {
    if (shift < 9 || shift > 40) {
      throw new IllegalArgumentException("page shift out of range: " + shift);
    }
  }

  /**
   * The page size of so many bytes.
   *
   * @throws IllegalArgumentException if {@code bytes} is not a power of two within range
   */
  public static PageSize ofBytes(long bytes) {
    if (bytes <= 0 || Long.bitCount(bytes) != 1) {
      throw new IllegalArgumentException("page size is not a power of two: " + bytes);
    }
    return new PageSize(Long.numberOfTrailingZeros(bytes));
  }

  public long bytes() {
    return 1L << shift;
  }

  /** How many whole pages lie in {@code lengthBytes}. */
  public long pagesIn(long lengthBytes) {
    return lengthBytes >>> shift;
  }

  /** The page that holds the byte at {@code offsetBytes}. */
  public long pageIndexOf(long offsetBytes) {
    return offsetBytes >>> shift;
  }

  /** Where page {@code pageIndex} begins. */
  public long offsetOf(long pageIndex) {
    return pageIndex << shift;
  }

  public boolean isAligned(long offsetBytes) {
    return (offsetBytes & (bytes() - 1)) == 0;
  }

  public long alignDown(long offsetBytes) {
    return offsetBytes & -bytes();
  }

  @Override
  public String toString() {
    return shift >= 20
        ? (1L << (shift - 20)) + "M"
        : shift >= 10 ? (1L << (shift - 10)) + "K" : bytes() + "B";
  }
}
