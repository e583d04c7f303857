package dev.postcopyd.cli;

import dev.postcopyd.app.Daemon;
import dev.postcopyd.app.GuestSpec;
import dev.postcopyd.qmp.schema.MigrationStatus;
import java.io.IOException;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/**
 * Shows one load as it goes on, until its end. A destination that somebody else drives is waited
 * for, also to listen again after its connection was lost. Used by one thread.
 */
final class LoadFollower {
  private static final long STEP_MILLIS = 5;

  /** While a guest is about to run. */
  private static final long SHORT_STEP_MILLIS = 1;

  private static final long SHOW_NANOS = TimeUnit.MILLISECONDS.toNanos(100);

  /** A first attempt at a recovery of a QEMU, which is made by itself, comes after a second. */
  private static final long PAUSED_NANOS = TimeUnit.SECONDS.toNanos(5);

  private static final long RECOVERY_NANOS = TimeUnit.SECONDS.toNanos(1);

  /** Whoever does not answer within this is waited for. */
  private static final long PROMPT_NANOS = TimeUnit.MILLISECONDS.toNanos(500);

  private final Daemon daemon;
  private final RestoreProgress progress;
  private final long patienceNanos;
  private final Optional<GuestSpec.Stream> destination;
  private WhenActive whenActive = () -> {};
  private boolean active;
  private long enteredNanos;
  private long pausedNanos;
  private long recoveredNanos;

  /**
   * @param patience how long somebody is waited for who is not there yet
   * @param destination whom to recover, and to wait for
   */
  LoadFollower(
      Daemon daemon,
      RestoreProgress progress,
      Duration patience,
      Optional<GuestSpec.Stream> destination) {
    this.daemon = daemon;
    this.progress = progress;
    this.patienceNanos = patience.toNanos();
    this.destination = destination;
  }

  /** What is to be done once the guest has its device state, and may run. */
  interface WhenActive {
    /**
     * Does it, on the thread that follows the load.
     *
     * @throws IOException which ends the following
     */
    void run() throws IOException;
  }

  /** The same, which does something as soon as the guest may run. */
  LoadFollower withWhenActive(WhenActive action) {
    whenActive = action;
    return this;
  }

  /** Returns at the load's end; says what went wrong, if anything did. */
  Optional<String> follow() throws InterruptedException, IOException {
    long startNanos = System.nanoTime();
    long shownNanos = startNanos;
    boolean seen = false;
    while (true) {
      MigrationStatus status = daemon.status();
      long nowNanos = System.nanoTime();
      seen |= status != MigrationStatus.NONE;
      boolean changed = progress.entered(status, nowNanos);
      enteredNanos = changed ? nowNanos : enteredNanos;
      if (!active
          && (status == MigrationStatus.POSTCOPY_ACTIVE || status == MigrationStatus.COMPLETED)) {
        active = true;
        whenActive.run();
      }
      if (changed || nowNanos - shownNanos >= SHOW_NANOS) {
        show(status, nowNanos);
        shownNanos = nowNanos;
      }
      if (status == MigrationStatus.COMPLETED) {
        progress.completed(daemon, nowNanos);
        return Optional.empty();
      }
      Optional<String> trouble = trouble(status, nowNanos);
      if (trouble.isEmpty() && !seen && nowNanos - startNanos > patienceNanos) {
        trouble = Optional.of(daemon.whyNoLoad());
      }
      if (trouble.isPresent()) {
        return progress.ended(trouble.get());
      }
      boolean soon = status == MigrationStatus.SETUP || status == MigrationStatus.POSTCOPY_DEVICE;
      TimeUnit.MILLISECONDS.sleep(soon ? SHORT_STEP_MILLIS : STEP_MILLIS);
    }
  }

  private void show(MigrationStatus status, long nowNanos) {
    long sinceNanos = nowNanos - (pausedNanos == 0 ? enteredNanos : pausedNanos);
    boolean waits =
        switch (status) {
          case SETUP, POSTCOPY_PAUSED, POSTCOPY_RECOVER_SETUP -> true;
          default -> false;
        };
    if (destination.isPresent() && waits && sinceNanos > PROMPT_NANOS) {
      progress.waiting(
          destination.get().address().toString(),
          Math.max(0, TimeUnit.NANOSECONDS.toSeconds(patienceNanos - sinceNanos)));
    } else {
      progress.show(daemon, nowNanos);
    }
  }

  /** Why the load does not go on, if it does not. */
  private Optional<String> trouble(MigrationStatus status, long nowNanos) {
    switch (status) {
      case FAILED -> {
        return Optional.of(daemon.errorDesc().orElse("the load has failed"));
      }
      case POSTCOPY_PAUSED -> {
        pausedNanos = pausedNanos == 0 ? nowNanos : pausedNanos;
        if (nowNanos - pausedNanos > (destination.isPresent() ? patienceNanos : PAUSED_NANOS)) {
          return Optional.of(daemon.errorDesc().orElse("the connection is lost") + whatIsLeft());
        }
        if (destination.isPresent() && nowNanos - recoveredNanos > RECOVERY_NANOS) {
          recoveredNanos = nowNanos;
          daemon.recoverPaused();
        }
      }
      case POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER -> {
        // As long as it is not there again.
      }
      default -> pausedNanos = 0;
    }
    return daemon.endReason();
  }

  private String whatIsLeft() {
    return destination.isPresent()
        ? ": the guest there waits for the rest of its memory, which nobody has any more"
        : ": the guest waits for its memory; run the same command again to go on";
  }
}
