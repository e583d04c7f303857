package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.Arrays;

/**
 * Which pages a guest had to wait for, each once, in the order of their first faults.
 *
 * <p>Written by the fault thread alone; the order is read by others once that thread has ended, or
 * after some other handshake with it, and which pages they are by anybody at any time. Bounded:
 * when it is full, the order of later faults is not noted, since those that matter are the first.
 * Noting one allocates nothing and costs a few nanoseconds.
 */
public final class FaultOrder {
  private static final VarHandle WORD = MethodHandles.arrayElementVarHandle(long[].class);

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
    int word = (int) (pageIndex >>> 6);
    long bit = 1L << pageIndex;
    if (word < noted.length && (noted[word] & bit) == 0) {
      noted[word] |= bit;
      if (count < pageIndices.length) {
        pageIndices[count++] = pageIndex;
      }
    }
  }

  /** This one, or, where nothing is noted, one that notes which pages, and no order. */
  FaultOrder withPagesOf(RamBlockTable table) {
    return noted.length == 0 ? of(table, 0) : this;
  }

  /** Which of the 64 pages of a bitmap word the guest had to wait for; perhaps not the latest. */
  long waitedFor(int word) {
    return (long) WORD.getOpaque(noted, word);
  }

  /** The pages, as page indices of the table. */
  public long[] pageIndices() {
    return Arrays.copyOf(pageIndices, count);
  }
}
