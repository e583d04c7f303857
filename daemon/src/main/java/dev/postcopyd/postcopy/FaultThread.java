package dev.postcopyd.postcopy;

import java.io.IOException;
import java.util.concurrent.CountDownLatch;
import java.util.function.Consumer;
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
  private final FaultSink sink;
  private final Runnable preparation;
  private final Consumer<String> failure;
  private final Thread thread;
  private final CountDownLatch prepared = new CountDownLatch(1);

  public FaultThread(FaultSource source, PostcopyEngine engine, String name) {
    this(source, engine, engine::prepareThread, engine::fail, name);
  }

  private FaultThread(
      FaultSource source,
      FaultSink sink,
      Runnable preparation,
      Consumer<String> failure,
      String name) {
    this.source = source;
    this.sink = sink;
    this.preparation = preparation;
    this.failure = failure;
    this.thread = Thread.ofPlatform().name(name).daemon().unstarted(this::run);
  }

  /**
   * A thread for faults that nothing is fetched for.
   *
   * @param failure is told why faults can no longer be read
   */
  public static FaultThread withoutEngine(
      FaultSource source, FaultSink sink, Consumer<String> failure, String name) {
    return new FaultThread(source, sink, () -> {}, failure, name);
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
        preparation.run();
      } finally {
        prepared.countDown();
      }
      source.serve(sink);
    } catch (IOException e) {
      failure.accept("faults can no longer be read: " + e.getMessage());
    } catch (RuntimeException | Error e) {
      log.error("fault path stopped by a bug", e);
      failure.accept("internal error in the fault path: " + e);
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
