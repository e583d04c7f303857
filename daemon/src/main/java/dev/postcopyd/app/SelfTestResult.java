package dev.postcopyd.app;

import java.io.IOException;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The start-up self-test of the guest's kind of fault path, beside the rest of the start. Its
 * outcome is logged, and asked for by the readiness probe; a machine that does not let us handle
 * faults can still load plainly, so it ends nothing.
 */
final class SelfTestResult {
  private static final Logger log = LoggerFactory.getLogger(SelfTestResult.class);

  private final Test test;
  private final CompletableFuture<Optional<String>> failure = new CompletableFuture<>();
  private volatile boolean wanted;

  private SelfTestResult(Test test) {
    this.test = test;
  }

  /** A test that takes the way of a load. */
  @FunctionalInterface
  interface Test {
    /**
     * Takes it, on the calling thread and some of its own.
     *
     * @param wanted becomes true when somebody waits for the end
     */
    void run(BooleanSupplier wanted) throws IOException;
  }

  static SelfTestResult start(Test test) {
    SelfTestResult result = new SelfTestResult(test);
    Thread.ofPlatform().name("self-test").daemon().start(result::run);
    return result;
  }

  private void run() {
    long startNanos = System.nanoTime();
    try {
      rehearse();
      log.info(
          "self-test passed millis={}",
          TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - startNanos));
      failure.complete(Optional.empty());
    } catch (IOException e) {
      log.warn("self-test failed: a load with postcopy-ram will fail too. {}", e.getMessage());
      failure.complete(Optional.of(String.valueOf(e.getMessage())));
    } catch (RuntimeException | Error e) {
      log.error("self-test stopped by a bug", e);
      failure.complete(Optional.of("internal error: " + e));
    }
  }

  /** Runs the test on a thread of the group whose words are not logged. */
  private void rehearse() throws IOException {
    FutureTask<@Nullable Void> task =
        new FutureTask<>(() -> {
          test.run(() -> wanted);
          return null;
        });
    Thread.ofPlatform()
        .group(new ThreadGroup(RehearsalFilter.GROUP))
        .name("self-test")
        .daemon()
        .start(task);
    try {
      Void _ = task.get();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("self-test: interrupted", e);
    } catch (ExecutionException e) {
      switch (e.getCause()) {
        case IOException failed -> throw failed;
        case RuntimeException bug -> throw bug;
        case Error bug -> throw bug;
        case null, default -> throw new IllegalStateException(e);
      }
    }
  }

  /** No more rounds than the test needs: somebody else needs the processors. */
  void hurry() {
    wanted = true;
  }

  /** Waits for the end of the test, which has a deadline of its own. */
  void await() {
    wanted = true;
    Optional<String> _ = failure.join();
  }

  /** Waits for the end of the test and says why faults can't be handled here, if so. */
  Optional<String> trouble() {
    wanted = true;
    return failure.join();
  }

  /** Whether it is known that faults can't be handled here. */
  boolean hasFailed() {
    return failure.isDone() && failure.join().isPresent();
  }

  /** Why faults can't be handled here, or not yet; empty when they can. */
  Optional<String> whyNotReady() {
    return failure.isDone()
        ? failure.join().map(reason -> "faults cannot be handled: " + reason)
        : Optional.of("the self-test of the fault path is still running");
  }
}
