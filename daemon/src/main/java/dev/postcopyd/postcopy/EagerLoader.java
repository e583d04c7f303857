package dev.postcopyd.postcopy;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.LockSupport;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Brings in, in the background, every page that nobody has asked for yet.
 *
 * <p>Owns its threads: {@link #start} once, {@link #close} from any thread, which returns when they
 * have ended. Faults come first: while somebody waits for a page a run is put off for a moment, and
 * it is short enough that a fault on one of its pages does not wait long for it.
 */
public final class EagerLoader implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(EagerLoader.class);

  /** Bytes fetched and placed at a time: throughput no longer grows beyond it, waiting does. */
  public static final long RUN_BYTES = 256 << 10;

  private static final long HOLD_BACK_NANOS = 20_000;

  private final PostcopyEngine engine;
  private final ClaimCursor cursor;
  private final List<Thread> threads = new ArrayList<>();
  private volatile boolean stopped;

  public EagerLoader(PostcopyEngine engine, int threadCount, String name) {
    this(engine, threadCount, RUN_BYTES, name);
  }

  /**
   * @param runBytes bytes fetched and placed at a time, at least a page; at most {@link #RUN_BYTES}
   */
  public EagerLoader(PostcopyEngine engine, int threadCount, long runBytes, String name) {
    this.engine = engine;
    this.cursor = new ClaimCursor(engine, runBytes);
    for (int i = 0; i < threadCount; i++) {
      threads.add(Thread.ofPlatform().name(name + "-" + i).daemon().unstarted(this::run));
    }
  }

  public void start() {
    threads.forEach(Thread::start);
  }

  private void run() {
    try {
      engine.prepareThread();
      loadAll();
    } catch (RuntimeException | Error e) {
      log.error("loader stopped by a bug", e);
      engine.fail("internal error in the loader: " + e);
    }
  }

  private void loadAll() {
    if (engine.table().blocks().isEmpty()) {
      return;
    }
    ClaimCursor.Run run = new ClaimCursor.Run(engine.table().blocks().getFirst());
    while (!stopped && !engine.hasFailed()) {
      if (engine.hasOutstandingFaults()) {
        // Once a run and no longer: a guest that faults all the time must not keep the rest away.
        LockSupport.parkNanos(HOLD_BACK_NANOS);
      }
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
