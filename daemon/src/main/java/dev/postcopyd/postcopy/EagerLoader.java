package dev.postcopyd.postcopy;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.locks.LockSupport;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Brings in, in the background, every page that nobody has asked for yet: first those of a given
 * order, if there is one, then all others.
 *
 * <p>Owns its threads. {@link #startPrefetch} begins with the given order, and {@link #start} lets
 * it go on to the rest (or begins with both); each at most once, in this order. {@link #close} from
 * any thread returns when the threads have ended. Faults come first: while somebody waits for a
 * page a run is put off for a moment, and it is short enough that a fault on one of its pages does
 * not wait long for it.
 */
public final class EagerLoader implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(EagerLoader.class);

  /** Bytes fetched and placed at a time: throughput no longer grows beyond it, waiting does. */
  public static final long RUN_BYTES = 256 << 10;

  private static final long HOLD_BACK_NANOS = 20_000;

  private final PostcopyEngine engine;
  private final PrefetchCursor prefetch;
  private final ClaimCursor cursor;
  private final LoadPacer pacer;
  private final List<Thread> threads = new ArrayList<>();
  private final CountDownLatch mayLoadRest = new CountDownLatch(1);
  private volatile boolean stopped;

  /** A loader without any page that is to come first. */
  public EagerLoader(PostcopyEngine engine, int threadCount, String name) {
    this(engine, threadCount, RUN_BYTES, name, new long[0]);
  }

  /**
   * @param runBytes bytes fetched and placed at a time, at least a page; at most {@link #RUN_BYTES}
   * @param prefetchOrder page indices of the engine's table that are to come first, in this order;
   *     not written to
   */
  public EagerLoader(
      PostcopyEngine engine, int threadCount, long runBytes, String name, long[] prefetchOrder) {
    this(engine, threadCount, runBytes, name, prefetchOrder, LoadPacer.AT_ONCE);
  }

  /**
   * @param runBytes bytes fetched and placed at a time, at least a page; at most {@link #RUN_BYTES}
   * @param prefetchOrder page indices of the engine's table that are to come first, in this order;
   *     not written to
   * @param pacer decides when the next run of the rest is due
   */
  public EagerLoader(
      PostcopyEngine engine,
      int threadCount,
      long runBytes,
      String name,
      long[] prefetchOrder,
      LoadPacer pacer) {
    this.engine = engine;
    this.pacer = pacer;
    this.prefetch = new PrefetchCursor(engine, prefetchOrder, runBytes);
    this.cursor = new ClaimCursor(engine, runBytes);
    for (int i = 0; i < threadCount; i++) {
      threads.add(Thread.ofPlatform().name(name + "-" + i).daemon().unstarted(this::run));
    }
  }

  /** Brings in what is to come first, and no more before {@link #start}. */
  public void startPrefetch() {
    threads.forEach(Thread::start);
  }

  /** Brings in everything. */
  public void start() {
    mayLoadRest.countDown();
    if (threads.getFirst().getState() == Thread.State.NEW) {
      threads.forEach(Thread::start);
    }
  }

  private void run() {
    try {
      engine.prepareThread();
      if (!engine.table().blocks().isEmpty()) {
        ClaimCursor.Run run = new ClaimCursor.Run(engine.table().blocks().getFirst());
        loadFirst(run);
        awaitRest();
        loadAll(run);
      }
    } catch (RuntimeException | Error e) {
      log.error("loader stopped by a bug", e);
      engine.fail("internal error in the loader: " + e);
    }
  }

  /**
   * Faults put a run off once for every {@link #RUN_BYTES}, as below: runs are short here, often
   * one page, and a guest that faults is what they are for.
   */
  private void loadFirst(ClaimCursor.Run run) {
    long bytesSinceHoldBack = 0;
    while (!stopped && !engine.hasFailed() && prefetch.claimNext(run)) {
      engine.prefetch(run.block, run.firstPageIndex, run.pageCount);
      bytesSinceHoldBack += run.block.hostPageSize().offsetOf(run.pageCount);
      if (bytesSinceHoldBack >= RUN_BYTES && engine.hasOutstandingFaults()) {
        LockSupport.parkNanos(HOLD_BACK_NANOS);
        bytesSinceHoldBack = 0;
      }
    }
  }

  private void awaitRest() {
    boolean interrupted = false;
    while (true) {
      try {
        mayLoadRest.await();
        break;
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private void loadAll(ClaimCursor.Run run) {
    while (!stopped && !engine.hasFailed()) {
      if (engine.hasOutstandingFaults()) {
        // Once a run and no longer: a guest that faults all the time must not keep the rest away.
        LockSupport.parkNanos(HOLD_BACK_NANOS);
      }
      pacer.awaitTurn();
      if (!cursor.claimNext(run)) {
        return;
      }
      engine.load(run.block, run.firstPageIndex, run.pageCount);
    }
  }

  /** Stops after the runs that are under way, and waits for them. */
  @Override
  public void close() {
    stopped = true;
    mayLoadRest.countDown();
    for (Thread thread : threads) {
      if (thread.isAlive()) {
        joinUninterruptibly(thread);
      }
    }
  }

  static void joinUninterruptibly(Thread thread) {
    boolean interrupted = false;
    while (true) {
      try {
        thread.join();
        break;
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
