package dev.postcopyd.outgoing;

import java.time.Duration;
import java.util.OptionalLong;

/**
 * A save that goes on by itself: what commands and those who watch see of it. Safe for any thread.
 */
public interface Save {
  /** Is told of every state after the first, in order, on the thread that changed it. */
  interface Listener {
    void stateChanged(SaveState state);
  }

  /**
   * The state; while a change is being told to the listener, its callers wait for the end of that.
   */
  SaveState state();

  /** When it was begun, by {@link System#nanoTime}. */
  long startedNanos();

  long totalBytes();

  /** Bytes of RAM that have been looked at and, where not zero, written. */
  long scannedBytes();

  /** Bytes of pages that were not zero, and so were written. */
  long writtenBytes();

  /** How long the guest stood still for it, once that is over. */
  OptionalLong downtimeNanos();

  /** How long it took until the first page was looked at, once that is over. */
  OptionalLong setupNanos();

  void start();

  /** Asks it to stop; without effect when it has ended. */
  void cancel();

  /**
   * Waits until it has ended, or for so long.
   *
   * @return whether it has ended; a write to a disk that does not answer can't be interrupted
   */
  boolean awaitEnd(Duration atMost) throws InterruptedException;

  /** Whether it is under way. */
  default boolean isLive() {
    return state() instanceof SaveState.Live;
  }
}
