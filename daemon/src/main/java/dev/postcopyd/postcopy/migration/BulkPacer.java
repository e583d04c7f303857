package dev.postcopyd.postcopy.migration;

import dev.postcopyd.postcopy.LoadPacer;
import java.util.concurrent.locks.LockSupport;
import java.util.function.LongSupplier;

/**
 * Keeps the bulk of a postcopy migration below the rate that the user allows: {@code
 * max-postcopy-bandwidth} counts the bytes of the main channel over all its time.
 *
 * <p>It does not wait for requests to cease: the bulk goes where the guest asks, and what it brings
 * from there is worth more to the guest than the bandwidth (docs/adr/0014).
 *
 * <p>Thread-safe; allocates nothing.
 */
public final class BulkPacer implements LoadPacer {
  private static final long LONGEST_PARK_NANOS = 20_000_000;

  private final PageChannel main;
  private final LongSupplier bytesPerSecond;
  private long rateSinceNanos;
  private long rateSinceBytes;
  private long rate;
  private volatile boolean stopped;

  /**
   * @param bytesPerSecond what the user allows now; 0 for no limit
   */
  public BulkPacer(PageChannel main, LongSupplier bytesPerSecond) {
    this.main = main;
    this.bytesPerSecond = bytesPerSecond;
  }

  @Override
  public void awaitTurn() {
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
