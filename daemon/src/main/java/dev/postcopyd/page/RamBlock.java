package dev.postcopyd.page;

/**
 * One block of guest RAM, as the guest has it.
 *
 * <p>Immutable. Pages are <em>host</em> pages: the smallest unit that can be placed into the guest,
 * 4 KiB or, on hugetlb, 2 MiB. Page {@code i} of the block is page {@code firstPageIndex + i} of
 * the {@link RamBlockTable}.
 *
 * @param index position in the table
 * @param name QEMU's name of the block, e.g. {@code pc.ram}
 * @param usedLengthBytes length, a multiple of the host page size
 * @param hostPageSize what the guest's memory is backed by
 * @param firstPageIndex index of the block's first page in the table's page index space; a multiple
 *     of 64, so that no two blocks share a bitmap word
 */
public record RamBlock(
    int index, String name, long usedLengthBytes, PageSize hostPageSize, long firstPageIndex) {
  public RamBlock {
    if (usedLengthBytes <= 0 || !hostPageSize.isAligned(usedLengthBytes)) {
      throw new IllegalArgumentException(
          "length of block "
              + name
              + " is not a multiple of its page size "
              + hostPageSize
              + ": "
              + usedLengthBytes);
    }
    if ((firstPageIndex & 63) != 0) {
      throw new IllegalArgumentException(
          "block " + name + " does not start on a bitmap word: " + firstPageIndex);
    }
  }

  public long pageCount() {
    return hostPageSize.pagesIn(usedLengthBytes);
  }

  /** One past the index of the block's last page. */
  public long endPageIndex() {
    return firstPageIndex + pageCount();
  }

  /** Where page {@code pageIndex} of the table lies in this block. */
  public long offsetOf(long pageIndex) {
    return hostPageSize.offsetOf(pageIndex - firstPageIndex);
  }

  /** The page index (of the table) that holds the byte at {@code offsetBytes} of this block. */
  public long pageIndexAt(long offsetBytes) {
    return firstPageIndex + hostPageSize.pageIndexOf(offsetBytes);
  }
}
