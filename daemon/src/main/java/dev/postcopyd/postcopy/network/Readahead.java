package dev.postcopyd.postcopy.network;

import dev.postcopyd.postcopy.LoadPacer;
import dev.postcopyd.postcopy.PostcopyEngine;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.jspecify.annotations.Nullable;

/**
 * How much is asked for ahead of the guest. A source that sends by itself is asked for nothing but
 * what somebody waits for: it sends in an order that suits it, and is not to be kept from that. One
 * that only answers is asked for a window of pages, which doubles whenever all of it has come and
 * nobody had to wait meanwhile, and is as small as can be as soon as somebody does: a source
 * answers in order, and a fault waits for all that was asked for before it.
 *
 * <p>The loader's thread waits in {@link #awaitTurn}; channels and the fault thread tell what
 * happens. Allocates nothing.
 */
final class Readahead implements LoadPacer {
  /** One run of the loader. */
  static final int RUN_PAGES = 16;

  private static final int LEAST_PAGES = RUN_PAGES;
  private static final int MOST_PAGES = 2048;

  /** QEMU's rate limit lets pages go every 100 ms. */
  private static final long PUSHES_NANOS = 300_000_000;

  private static final long LONG_PARK_NANOS = 20_000_000;
  private static final long SHORT_PARK_NANOS = 100_000;
  private static final long MAX_HELD_NANOS = 2_000_000;

  private final AtomicLong inFlightPages = new AtomicLong();
  private volatile long pushedNanos = System.nanoTime();
  private volatile long windowPages = LEAST_PAGES;
  private volatile boolean attached;
  private volatile boolean stopped;
  private volatile @Nullable PostcopyEngine engine;
  private long sinceGrownPages;

  /** Whose faults come first. */
  void watch(PostcopyEngine of) {
    engine = of;
  }

  @Override
  public void awaitTurn() {
    long held = 0;
    while (!stopped) {
      PostcopyEngine of = engine;
      if (of != null && (of.isComplete() || of.hasFailed())) {
        return;
      }
      if (!attached || System.nanoTime() - pushedNanos < PUSHES_NANOS) {
        LockSupport.parkNanos(LONG_PARK_NANOS);
      } else if (of != null && of.hasOutstandingFaults() && held < MAX_HELD_NANOS) {
        // For a while: a guest that faults all the time must not keep the rest away.
        windowPages = LEAST_PAGES;
        held += SHORT_PARK_NANOS;
        LockSupport.parkNanos(SHORT_PARK_NANOS);
      } else if (inFlightPages.get() >= windowPages) {
        LockSupport.parkNanos(SHORT_PARK_NANOS);
      } else {
        return;
      }
    }
  }

  /** Whether the source listens to requests. It may begin to send by itself. */
  void attached(boolean now) {
    pushedNanos = System.nanoTime();
    attached = now;
  }

  /** Pages have come that were not asked for. */
  void pushed() {
    pushedNanos = System.nanoTime();
  }

  /** Somebody has to wait for a page. */
  void faulted() {
    windowPages = LEAST_PAGES;
  }

  /** Pages are being asked for ahead; called by the loader's thread and the fault thread. */
  void asked(int pageCount) {
    long _ = inFlightPages.addAndGet(pageCount);
  }

  /** Pages that were asked for ahead have come. */
  void came(int pageCount) {
    long _ = inFlightPages.addAndGet(-pageCount);
    synchronized (this) {
      sinceGrownPages += pageCount;
      if (sinceGrownPages >= windowPages) {
        sinceGrownPages = 0;
        windowPages = Math.min(MOST_PAGES, 2 * windowPages);
      }
    }
  }

  long windowPages() {
    return windowPages;
  }

  /** Nothing is asked for any more, so that nothing has to be waited for. */
  void finished() {
    stopped = true;
  }

  /** Whoever waits, and will, goes on. */
  void stop() {
    stopped = true;
  }
}
