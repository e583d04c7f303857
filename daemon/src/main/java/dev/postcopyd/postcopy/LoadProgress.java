package dev.postcopyd.postcopy;

import java.util.concurrent.atomic.LongAdder;

/** What one load has brought in so far. Written by the engine, read by anybody. */
public final class LoadProgress {
  final LongAdder dataBytes = new LongAdder();
  final LongAdder zeroBytes = new LongAdder();
  final LongAdder faults = new LongAdder();
  final LongAdder prefetchedPages = new LongAdder();

  /** Bytes placed from pages with data. */
  public long dataBytes() {
    return dataBytes.sum();
  }

  /** Bytes of zero pages placed. */
  public long zeroBytes() {
    return zeroBytes.sum();
  }

  /** Faults on pages that were not there yet. */
  public long faults() {
    return faults.sum();
  }

  /** Host pages that were brought in before all others because a recording named them. */
  public long prefetchedPages() {
    return prefetchedPages.sum();
  }
}
