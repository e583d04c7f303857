package dev.postcopyd.outgoing;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The one door through which the state of a save changes, in order and each change told to the
 * listener before the next. Safe for any thread.
 */
public final class SaveDoor {
  private static final Logger log = LoggerFactory.getLogger(SaveDoor.class);

  private final Save.Listener listener;
  private SaveState state;
  private volatile boolean cancelled;

  /** A save that was asked to stop goes no further. */
  public static final class CancelledException extends java.io.IOException {
    private static final long serialVersionUID = 1;

    private CancelledException() {
      super("cancelled");
    }
  }

  public SaveDoor(long startedNanos, Save.Listener listener) {
    this.state = new SaveState.Setup(startedNanos);
    this.listener = listener;
  }

  public synchronized SaveState state() {
    return state;
  }

  public synchronized void enter(SaveState next) {
    log.info("save old={} new={}", state.getClass().getSimpleName(), next);
    state = next;
    listener.stateChanged(next);
  }

  public synchronized void enterUnlessCancelled(SaveState next) throws CancelledException {
    checkCancelled();
    enter(next);
  }

  /** Asks the save to stop; without effect when it has ended. */
  public void cancel() {
    cancelled = true;
    synchronized (this) {
      if (state instanceof SaveState.Setup || state instanceof SaveState.Active) {
        enter(new SaveState.Cancelling(System.nanoTime()));
      }
    }
  }

  public boolean isCancelled() {
    return cancelled;
  }

  public void checkCancelled() throws CancelledException {
    if (cancelled) {
      throw new CancelledException();
    }
  }
}
