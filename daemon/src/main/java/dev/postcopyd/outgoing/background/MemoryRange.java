package dev.postcopyd.outgoing.background;

import dev.postcopyd.page.RamBlock;

/**
 * A part of a block that lies in the guest's address space in one piece.
 *
 * @param start its first address there
 * @param lengthBytes whole pages of the block
 * @param block whose part it is
 * @param firstPageIndex the page at its start, in the table's index space
 * @param shared whether pages may be in the file behind it without being mapped; then everything is
 *     protected, and what is zero is found by reading
 */
public record MemoryRange(
    long start, long lengthBytes, RamBlock block, long firstPageIndex, boolean shared) {
  long end() {
    return start + lengthBytes;
  }

  long endPageIndex() {
    return firstPageIndex + block.hostPageSize().pagesIn(lengthBytes);
  }

  long addressOf(long pageIndex) {
    return start + block.hostPageSize().offsetOf(pageIndex - firstPageIndex);
  }

  long pageIndexAt(long address) {
    return firstPageIndex + block.hostPageSize().pageIndexOf(address - start);
  }
}
