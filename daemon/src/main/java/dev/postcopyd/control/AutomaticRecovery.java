package dev.postcopyd.control;

import dev.postcopyd.loader.Load;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.loader.LoaderState;
import dev.postcopyd.loader.Transition;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Recovers a load that an earlier daemon has begun, and tries again for as long as it does not
 * succeed: the snapshot may be out of reach, QEMU may be busy. The pauses become longer; a client's
 * migrate-recover need not wait for them.
 *
 * <p>Told of states by the loader's thread; waits on nobody's.
 */
final class AutomaticRecovery {
  private static final Logger log = LoggerFactory.getLogger(AutomaticRecovery.class);
  private static final long FIRST_PAUSE_MILLIS = 1_000;
  private static final long LONGEST_PAUSE_MILLIS = 30_000;

  private final Loader loader;
  private final Object lock = new Object();
  private @Nullable Load load;
  private long pauseMillis;

  AutomaticRecovery(Loader loader) {
    this.loader = loader;
  }

  /** From now on this load is recovered whenever it is paused; the first time at once. */
  void begin(Load paused) {
    synchronized (lock) {
      load = paused;
      pauseMillis = FIRST_PAUSE_MILLIS;
    }
    recover(paused);
  }

  /** A client wants it to be paused. */
  void end() {
    synchronized (lock) {
      load = null;
    }
  }

  /** Identity on purpose: two loads of the same snapshot are two loads. */
  @SuppressWarnings("ReferenceEquality")
  private boolean isFor(Load of) {
    synchronized (lock) {
      return load == of;
    }
  }

  void stateChanged(LoaderState after) {
    switch (after) {
      case LoaderState.PostcopyPaused paused when isFor(paused.load()) -> tryLater(paused);
      case LoaderState.PostcopyActive _ -> {
        synchronized (lock) {
          pauseMillis = FIRST_PAUSE_MILLIS;
        }
      }
      case LoaderState.Ended _ -> end();
      case LoaderState.Live _, LoaderState.Idle _ -> {}
    }
  }

  private void tryLater(LoaderState.PostcopyPaused paused) {
    long pause;
    synchronized (lock) {
      pause = pauseMillis;
      pauseMillis = Math.min(2 * pauseMillis, LONGEST_PAUSE_MILLIS);
    }
    log.info("the load is recovered again in a while millis={}", pause);
    CompletableFuture.delayedExecutor(pause, TimeUnit.MILLISECONDS)
        .execute(() -> {
          if (isFor(paused.load()) && loader.state() instanceof LoaderState.PostcopyPaused) {
            recover(paused.load());
          }
        });
  }

  private void recover(Load paused) {
    log.debug("recovery begins load={}", paused.source());
    CompletableFuture<Transition> _ = loader.submit(new LoaderEvent.RecoverRequested(""));
  }
}
