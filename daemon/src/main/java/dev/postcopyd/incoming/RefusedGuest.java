package dev.postcopyd.incoming;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.postcopy.FaultSink;
import dev.postcopyd.postcopy.uffd.HandedOverFaultSource;
import dev.postcopyd.postcopy.uffd.HandedOverMemory;
import dev.postcopyd.postcopy.uffd.HandedOverPagePlacer;
import dev.postcopyd.postcopy.uffd.PagePoisoner;
import java.io.IOException;
import java.util.concurrent.atomic.AtomicBoolean;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Answers the faults of a guest that gets no memory any more: SIGBUS for what is missing, and where
 * that can't be had, once, a signal to its process. Never zeros, and no wait without end.
 *
 * <p>Safe for any thread; owns nothing.
 */
final class RefusedGuest implements FaultSink {
  private static final Logger log = LoggerFactory.getLogger(RefusedGuest.class);

  private final HandedOverGuest guest;
  private final HandedOverMemory memory;
  private final HandedOverPagePlacer pages;
  private final PagePoisoner poisoner;
  private final int signal;
  private final AtomicBoolean signalled = new AtomicBoolean();

  /**
   * A guest that is refused.
   *
   * @param signal what its process gets when the kernel can't poison
   */
  RefusedGuest(
      HandedOverGuest guest,
      HandedOverMemory memory,
      HandedOverFaultSource source,
      HandedOverPagePlacer pages,
      int signal) {
    this.guest = guest;
    this.memory = memory;
    this.pages = pages;
    this.poisoner = new PagePoisoner(memory, source);
    this.signal = signal;
  }

  @Override
  public void fault(RamBlock block, long pageIndex, int threadId, long faultNanos) {
    if (memory.marks().isDone(pageIndex)) {
      pages.wake(block, pageIndex);
    } else if (!poisoner.poison(block, pageIndex)) {
      signalPeer();
    }
  }

  @Override
  public void guestGone(String reason) {}

  /** Every page that is missing raises SIGBUS from now on, also without anybody serving it. */
  void poisonAll() {
    if (!poisoner.poisonMissing()) {
      signalPeer();
    }
  }

  private void signalPeer() {
    if (!signalled.compareAndSet(false, true)) {
      return;
    }
    int pid = guest.record().identity().peer().pid();
    try {
      guest.signal(signal);
      log.warn(
          "guest signalled guest={} pid={} signal={} reason=\"a page can't be had, nor can it be poisoned\"",
          guest.id(),
          pid,
          signal);
    } catch (IOException e) {
      log.error(
          "guest waits for ever guest={} pid={} reason=\"a page can't be had, nor can it be poisoned, and its process can't be signalled: {}\"",
          guest.id(),
          pid,
          e.getMessage());
    }
  }
}
