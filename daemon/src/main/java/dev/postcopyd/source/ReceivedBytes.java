package dev.postcopyd.source;

import java.util.concurrent.atomic.LongAdder;

/** What has been received of one migration, over all its connections. Safe for any thread. */
final class ReceivedBytes {
  private final LongAdder precopy = new LongAdder();
  private final LongAdder postcopy = new LongAdder();
  private final LongAdder multifd = new LongAdder();
  private volatile boolean switchedOver;

  /** What comes from now on comes after the guest was switched over. */
  void switchedOver() {
    switchedOver = true;
  }

  /** Counts what has come on the main channel, or on one for urgent pages. */
  void add(long bytes) {
    (switchedOver ? postcopy : precopy).add(bytes);
  }

  /** Counts what has come on a channel of multifd. */
  void addMultifd(long bytes) {
    multifd.add(bytes);
  }

  Traffic look() {
    return new Traffic(precopy.sum(), postcopy.sum(), multifd.sum());
  }
}
