package dev.postcopyd.incoming;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.postcopy.FaultSink;
import dev.postcopyd.postcopy.uffd.HandedOverPagePlacer;

/**
 * Answers the faults of a guest that has all its pages: what is missing it has given back, so it is
 * zero.
 */
record SettledGuest(HandedOverPagePlacer pages) implements FaultSink {
  @Override
  public void fault(RamBlock block, long pageIndex, int threadId, long faultNanos) {
    pages.wake(block, pageIndex);
  }

  @Override
  public void guestGone(String reason) {}
}
