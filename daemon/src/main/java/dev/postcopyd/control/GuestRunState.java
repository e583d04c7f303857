package dev.postcopyd.control;

import dev.postcopyd.qmp.schema.RunState;

/**
 * Whether the guest runs, as {@code query-status}, {@code stop} and {@code cont} know it.
 *
 * <p>The guest {@code memory} has no vCPUs; what is kept here is what a VMM over this memory would
 * be told. The rules are QEMU's: before a load has come far enough, stop and cont only decide
 * whether the guest will be started then. Thread-safe.
 */
final class GuestRunState {
  private final GuestEvents events;
  private RunState state = RunState.INMIGRATE;
  private boolean autostart = true;
  private boolean ranBeforeSave;

  GuestRunState(GuestEvents events) {
    this.events = events;
  }

  synchronized RunState state() {
    return state;
  }

  synchronized boolean isRunning() {
    return state == RunState.RUNNING;
  }

  synchronized void stop() {
    if (state == RunState.INMIGRATE) {
      autostart = false;
    } else if (state == RunState.RUNNING) {
      state = RunState.PAUSED;
      events.stopped();
    }
  }

  synchronized void cont() {
    if (state == RunState.INMIGRATE) {
      autostart = true;
    } else if (state != RunState.RUNNING) {
      run();
    }
  }

  /** A load has begun: the guest that was there, if any, is gone. */
  synchronized void loadStarted() {
    state = RunState.INMIGRATE;
  }

  /**
   * The guest may run from now on.
   *
   * @param savedRunning whether it ran when it was saved
   */
  synchronized void loaded(boolean savedRunning) {
    if (autostart && savedRunning) {
      run();
    } else {
      state = RunState.PAUSED;
    }
  }

  /** The guest is with somebody else now, who knows whether it runs. */
  synchronized void handedOver() {
    state = RunState.POSTMIGRATE;
  }

  /** A save has begun; memory must not change any more. */
  synchronized void saveStarted() {
    ranBeforeSave = state == RunState.RUNNING;
    if (ranBeforeSave) {
      events.stopped();
    }
    state = RunState.FINISH_MIGRATE;
  }

  /** A save has ended; without success the guest goes on as before. */
  synchronized void saveEnded(boolean completed) {
    if (completed) {
      state = RunState.POSTMIGRATE;
    } else if (ranBeforeSave) {
      run();
    } else {
      state = RunState.PAUSED;
    }
  }

  private void run() {
    state = RunState.RUNNING;
    events.resumed();
  }
}
