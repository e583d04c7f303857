package dev.postcopyd.postcopy;

import java.io.IOException;

/**
 * Where faults come from: a userfaultfd, or page requests on a migration's return path.
 *
 * <p>{@link #serve} is called once, by the one thread that owns the fault path; {@link #stop} may
 * be called from any thread and is idempotent. Closing what the source reads from is the business
 * of whoever opened it.
 */
public interface FaultSource {
  /**
   * Reports every fault to {@code sink} as soon as it is known; returns after {@link #stop}, or
   * when the guest is gone.
   *
   * @throws IOException if faults can no longer be read
   */
  void serve(FaultSink sink) throws IOException;

  /** Makes {@link #serve} return soon. */
  void stop();
}
