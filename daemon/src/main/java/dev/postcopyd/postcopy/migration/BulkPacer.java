package dev.postcopyd.postcopy.migration;

import dev.postcopyd.postcopy.LoadPacer;
import java.util.concurrent.locks.LockSupport;
import java.util.function.LongSupplier;

/**
 * Keeps the bulk of a postcopy migration out of the way of the pages that the guest waits for, and
 * below the rate that the user allows.
 *
 * <ul>
 *   <li>A guest that has just been let go touches its working set, one page after the other. While
 *       requests come in the bulk waits, for a bounded time: it would only slow them down.
 *   <li>{@code max-postcopy-bandwidth} counts the bytes of the main channel over all its time.
 * </ul>
 *
 * <p>Thread-safe; allocates nothing.
 */
public final class BulkPacer implements LoadPacer {
  private static final long QUIET_NANOS = 1_500_000;
  private static final long HOLD_BACK_NANOS = 250_000_000;
  private static final long LOOK_AGAIN_NANOS = 250_000;
  private static final long LONGEST_PARK_NANOS = 20_000_000;

  private final PageChannel main;
  private final ReturnPathFaultSource requests;
  private final LongSupplier bytesPerSecond;
  private final long holdBackUntilNanos;
  private long rateSinceNanos;
  private long rateSinceBytes;
  private long rate;
  private volatile boolean stopped;

  /**
   * @param bytesPerSecond what the user allows now; 0 for no limit
   */
  public BulkPacer(PageChannel main, ReturnPathFaultSource requests, LongSupplier bytesPerSecond) {
    this.main = main;
    this.requests = requests;
    this.bytesPerSecond = bytesPerSecond;
    this.holdBackUntilNanos = System.nanoTime() + HOLD_BACK_NANOS;
  }

  @Override
  public void awaitTurn() {
    holdBack();
    limit();
  }

  private void holdBack() {
    long now = System.nanoTime();
    while (!stopped
        && now - holdBackUntilNanos < 0
        && now - requests.lastRequestNanos() < QUIET_NANOS) {
      LockSupport.parkNanos(LOOK_AGAIN_NANOS);
      now = System.nanoTime();
    }
  }

  private void limit() {
    long waitNanos = dueInNanos();
    while (!stopped && waitNanos > 0) {
      LockSupport.parkNanos(Math.min(waitNanos, LONGEST_PARK_NANOS));
      waitNanos = dueInNanos();
    }
  }

  /** How long until what has been sent is what the rate allows. */
  private synchronized long dueInNanos() {
    long allowed = bytesPerSecond.getAsLong();
    long now = System.nanoTime();
    long sent = main.sentBytes();
    if (allowed != rate) {
      rate = allowed;
      rateSinceNanos = now;
      rateSinceBytes = sent;
    }
    if (allowed <= 0) {
      return 0;
    }
    double dueNanos = (sent - rateSinceBytes) * 1e9 / allowed;
    return (long) dueNanos - (now - rateSinceNanos);
  }

  /** Makes {@link #awaitTurn} return at once from now on. */
  public void stop() {
    stopped = true;
  }
}
