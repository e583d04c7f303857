package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlock;

/** Takes faults from a {@link FaultSource}, on the source's thread. */
public interface FaultSink {
  /** A {@code threadId} for faults whose thread is not known. */
  int UNKNOWN_THREAD = 0;

  /**
   * Somebody waits for a page.
   *
   * @param pageIndex index in the table's page index space
   * @param threadId the kernel's id of the thread that waits, or {@link #UNKNOWN_THREAD}
   * @param faultNanos when the fault was read, by {@link System#nanoTime}
   */
  void fault(RamBlock block, long pageIndex, int threadId, long faultNanos);

  /** The guest, and with it everybody who could wait for a page, is gone. */
  void guestGone(String reason);
}
