package dev.postcopyd.postcopy;

import java.io.IOException;
import java.util.concurrent.CountDownLatch;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The one thread that serves a guest's faults. A platform thread: it sits in a system call most of
 * the time, which would pin a virtual thread's carrier for good.
 *
 * <p>{@link #start} once; {@link #close} from any thread returns when the thread has ended. Closes
 * nothing that the {@link FaultSource} reads from.
 */
public final class FaultThread implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(FaultThread.class);

  private final FaultSource source;
  private final PostcopyEngine engine;
  private final Thread thread;
  private final CountDownLatch prepared = new CountDownLatch(1);

  public FaultThread(FaultSource source, PostcopyEngine engine, String name) {
    this.source = source;
    this.engine = engine;
    this.thread = Thread.ofPlatform().name(name).daemon().unstarted(this::run);
  }

  /** Returns when the thread has all it needs to serve its first fault at once. */
  public void start() {
    thread.start();
    boolean interrupted = false;
    while (true) {
      try {
        prepared.await();
        break;
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private void run() {
    try {
      try {
        engine.prepareThread();
      } finally {
        prepared.countDown();
      }
      source.serve(engine);
    } catch (IOException e) {
      engine.fail("faults can no longer be read: " + e.getMessage());
    } catch (RuntimeException | Error e) {
      log.error("fault path stopped by a bug", e);
      engine.fail("internal error in the fault path: " + e);
    }
  }

  @Override
  public void close() {
    source.stop();
    if (thread.isAlive()) {
      EagerLoader.joinUninterruptibly(thread);
    }
  }
}
