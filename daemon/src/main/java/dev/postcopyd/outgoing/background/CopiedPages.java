package dev.postcopyd.outgoing.background;

/**
 * A piece of the {@link CopyBuffer}: copies of up to {@value #PAGES} pages of 4 KiB, one behind the
 * other, and for each where in the file it belongs. Belongs to one thread at a time; nothing is
 * allocated after it was made.
 */
final class CopiedPages {
  /** How many pages there is room for. */
  static final int PAGES = 64;

  static final int PAGE_BYTES = 4096;

  /** Room in bytes. */
  static final int BYTES = PAGES * PAGE_BYTES;

  private final long address;
  private final int[] fileBlocks = new int[PAGES];
  private final long[] filePages = new long[PAGES];
  private int count;

  /**
   * @param address of so many bytes that are the piece's own
   */
  CopiedPages(long address) {
    this.address = address;
  }

  int count() {
    return count;
  }

  int room() {
    return PAGES - count;
  }

  /** Where the next page's copy goes to. */
  long nextAddress() {
    return address + (long) count * PAGE_BYTES;
  }

  /** Pages have been copied to {@link #nextAddress}. */
  void add(int fileBlock, long firstFilePage, int pages) {
    for (int i = 0; i < pages; i++) {
      fileBlocks[count] = fileBlock;
      filePages[count] = firstFilePage + i;
      count++;
    }
  }

  void clear() {
    count = 0;
  }

  int fileBlock(int index) {
    return fileBlocks[index];
  }

  long filePage(int index) {
    return filePages[index];
  }

  long addressOf(int index) {
    return address + (long) index * PAGE_BYTES;
  }

  /** How many pages from an index on follow one another in the file. */
  int run(int index) {
    int end = index + 1;
    while (end < count
        && fileBlocks[end] == fileBlocks[index]
        && filePages[end] == filePages[end - 1] + 1) {
      end++;
    }
    return end - index;
  }
}
