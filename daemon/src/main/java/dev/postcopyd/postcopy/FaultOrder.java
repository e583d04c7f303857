package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.util.Arrays;

/**
 * Which pages a guest had to wait for, each once, in the order of their first faults.
 *
 * <p>Written by the fault thread alone; read by others once that thread has ended, or after some
 * other handshake with it. Bounded: when it is full, later faults are not noted, since those that
 * matter are the first. Noting one allocates nothing and costs a few nanoseconds.
 */
public final class FaultOrder {
  private final long[] noted;
  private final long[] pageIndices;
  private int count;

  private FaultOrder(long indexSpaceSize, int capacity) {
    this.noted = new long[Math.toIntExact((indexSpaceSize + 63) >>> 6)];
    this.pageIndices = new long[capacity];
  }

  /** One that notes nothing. */
  public static FaultOrder off() {
    return new FaultOrder(0, 0);
  }

  /**
   * One for the pages of a table.
   *
   * @param limitBytes of how many bytes of guest memory the pages are noted, counted in the
   *     smallest pages of the table
   */
  public static FaultOrder of(RamBlockTable table, long limitBytes) {
    int smallestShift = 40;
    for (RamBlock block : table.blocks()) {
      smallestShift = Math.min(smallestShift, block.hostPageSize().shift());
    }
    long capacity = Math.min(table.totalPages(), limitBytes >>> smallestShift);
    return new FaultOrder(table.indexSpaceSize(), Math.toIntExact(capacity));
  }

  void note(long pageIndex) {
    if (count == pageIndices.length) {
      return;
    }
    int word = (int) (pageIndex >>> 6);
    long bit = 1L << pageIndex;
    if ((noted[word] & bit) == 0) {
      noted[word] |= bit;
      pageIndices[count++] = pageIndex;
    }
  }

  /** The pages, as page indices of the table. */
  public long[] pageIndices() {
    return Arrays.copyOf(pageIndices, count);
  }
}
