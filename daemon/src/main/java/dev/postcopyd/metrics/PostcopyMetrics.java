package dev.postcopyd.metrics;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.prometheus.metrics.model.registry.Collector;
import io.prometheus.metrics.model.snapshots.ClassicHistogramBuckets;
import io.prometheus.metrics.model.snapshots.HistogramSnapshot;
import io.prometheus.metrics.model.snapshots.MetricSnapshot;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.DoubleSupplier;
import org.HdrHistogram.AtomicHistogram;
import org.HdrHistogram.Histogram;

/**
 * What the daemon counts over all loads of its life: pages and bytes by the path they took, fault
 * latency, the loader's state, loads by outcome.
 *
 * <p>Safe for any thread. The methods that a page passes through do not allocate and take no lock.
 * All counters begin at zero at start-up and only grow, as Prometheus wants it.
 */
public final class PostcopyMetrics {
  private static final long HIGHEST_TRACKABLE_NANOS = 60_000_000_000L;
  private static final int HUGE_PAGE_SHIFT = 21;

  private final MeterRegistry registry;
  private final PlacedPages faultData;
  private final PlacedPages faultZero;
  private final PlacedPages eagerData;
  private final PlacedPages eagerZero;
  private final LongAdder fetchFailures = new LongAdder();
  private final LongAdder prefetchedPages = new LongAdder();
  private final LongAdder writeFaults = new LongAdder();
  private final LongAdder writeFaultNanos = new LongAdder();
  private final LongAdder throttledWriteFaults = new LongAdder();
  private final LongAdder throttledWriteNanos = new LongAdder();
  private final AtomicLong snapshotBufferBytes = new AtomicLong();
  private final AtomicLong workingSetPages = new AtomicLong();
  private final AtomicLong workingSetBytes = new AtomicLong();
  private final LongAdder faultNanos = new LongAdder();
  private final AtomicHistogram faultLatency = new AtomicHistogram(HIGHEST_TRACKABLE_NANOS, 2);

  public PostcopyMetrics(PrometheusMeterRegistry registry) {
    this.registry = registry;
    faultData = new PlacedPages("fault", "data");
    faultZero = new PlacedPages("fault", "zero");
    eagerData = new PlacedPages("eager", "data");
    eagerZero = new PlacedPages("eager", "zero");
    count("postcopyd.fetch.failures", "Fetches of pages that failed", fetchFailures);
    count(
        "postcopyd.pages.prefetched",
        "Pages brought in first because the snapshot's working set names them",
        prefetchedPages);
    count(
        "postcopyd.snapshot.write.faults",
        "Writes of guests that waited until their page was copied for a background snapshot",
        writeFaults);
    seconds(
        "postcopyd.snapshot.write.fault.seconds",
        "How long those writes have waited",
        writeFaultNanos);
    count(
        "postcopyd.snapshot.throttled.faults",
        "Writes that had to wait for room in a background snapshot's buffer",
        throttledWriteFaults);
    seconds(
        "postcopyd.snapshot.throttled.seconds",
        "How long those writes have waited for room",
        throttledWriteNanos);
    Gauge.builder("postcopyd.snapshot.buffer.bytes", snapshotBufferBytes, AtomicLong::doubleValue)
        .description("The most that the last background snapshot had copied and not written")
        .register(registry);
    Gauge.builder("postcopyd.working.set.pages", workingSetPages, AtomicLong::doubleValue)
        .description("Pages in the working set that was written last")
        .register(registry);
    Gauge.builder("postcopyd.working.set.file.bytes", workingSetBytes, AtomicLong::doubleValue)
        .description("Size of the working set's file that was written last")
        .register(registry);
    registry.getPrometheusRegistry().register(new FaultLatencyCollector());
  }

  /** Pages of one path and kind. */
  private final class PlacedPages {
    final LongAdder pages = new LongAdder();
    final LongAdder hugePages = new LongAdder();
    final LongAdder bytes = new LongAdder();

    PlacedPages(String path, String kind) {
      String description = "Pages placed into guests, by path, kind and page size";
      tagged(
          "postcopyd.pages.placed",
          description,
          pages,
          "path",
          path,
          "kind",
          kind,
          "page_size",
          "base");
      tagged(
          "postcopyd.pages.placed",
          description,
          hugePages,
          "path",
          path,
          "kind",
          kind,
          "page_size",
          "huge");
      tagged(
          "postcopyd.bytes.placed",
          "Bytes placed into guests, by path and kind",
          bytes,
          "path",
          path,
          "kind",
          kind);
    }

    void add(int pageShift, int pageCount, long byteCount) {
      (pageShift >= HUGE_PAGE_SHIFT ? hugePages : pages).add(pageCount);
      bytes.add(byteCount);
    }
  }

  private void count(String name, String description, LongAdder adder) {
    tagged(name, description, adder);
  }

  private void seconds(String name, String description, LongAdder nanos) {
    io.micrometer.core.instrument.FunctionCounter.builder(name, nanos, sum -> sum.sum() / 1e9)
        .description(description)
        .register(registry);
  }

  private void tagged(String name, String description, LongAdder adder, String... tags) {
    io.micrometer.core.instrument.FunctionCounter.builder(name, adder, LongAdder::doubleValue)
        .description(description)
        .tags(tags)
        .register(registry);
  }

  /** Pages with data are in a guest. */
  public void dataPlaced(boolean byFault, int pageShift, int pageCount, long bytes) {
    (byFault ? faultData : eagerData).add(pageShift, pageCount, bytes);
  }

  /** Zero pages are in a guest. */
  public void zeroPlaced(boolean byFault, int pageShift, int pageCount, long bytes) {
    (byFault ? faultZero : eagerZero).add(pageShift, pageCount, bytes);
  }

  /** A fault's page has been placed, so long after the fault was read. */
  public void faultResolved(long latencyNanos) {
    faultNanos.add(latencyNanos);
    faultLatency.recordValue(Math.min(latencyNanos, HIGHEST_TRACKABLE_NANOS));
  }

  /** Pages are fetched before all others, because a recording names them. */
  public void pagesPrefetched(int pageCount) {
    prefetchedPages.add(pageCount);
  }

  /** A working set has been written. */
  public void workingSetWritten(int pages, long sizeBytes) {
    workingSetPages.set(pages);
    workingSetBytes.set(sizeBytes);
  }

  /**
   * A background snapshot has ended.
   *
   * @param faults writes that waited until their page was copied
   * @param faultWaitNanos how long, together
   * @param throttled those of them that had to wait for room in the buffer
   * @param throttledNanos how long for that, together
   * @param bufferBytes the most that was copied and not written
   */
  public void backgroundSaveEnded(
      long faults, long faultWaitNanos, long throttled, long throttledNanos, long bufferBytes) {
    writeFaults.add(faults);
    writeFaultNanos.add(faultWaitNanos);
    throttledWriteFaults.add(throttled);
    throttledWriteNanos.add(throttledNanos);
    snapshotBufferBytes.set(bufferBytes);
  }

  public void fetchFailed() {
    fetchFailures.increment();
  }

  /** A load or save has come to an end. */
  public void migrationEnded(String direction, String outcome) {
    Counter.builder("postcopyd.migrations")
        .description("Loads (incoming) and saves (outgoing) that ended, by outcome")
        .tags("direction", direction, "outcome", outcome)
        .register(registry)
        .increment();
  }

  /** Shows {@code status} in the state gauge: 1 for the status that holds, 0 for the others. */
  public <T> void exportState(
      String status, T holder, java.util.function.ToDoubleFunction<T> isCurrent) {
    Gauge.builder("postcopyd.migration.state", holder, isCurrent)
        .description("1 for the migration status that query-migrate reports now")
        .tags("status", status)
        .register(registry);
  }

  /**
   * Shows figures of one guest, labelled with its number, until the answer is run.
   *
   * @param remainingBytes of its memory, not there yet
   * @param faults pages that it had to wait for
   */
  public Runnable exportGuest(long guest, DoubleSupplier remainingBytes, DoubleSupplier faults) {
    Gauge remaining =
        Gauge.builder(
                "postcopyd.guest.remaining.bytes", remainingBytes, DoubleSupplier::getAsDouble)
            .description("Memory of a guest that is not there yet")
            .tags("guest", Long.toString(guest))
            .strongReference(true)
            .register(registry);
    Gauge faulted =
        Gauge.builder("postcopyd.guest.faults", faults, DoubleSupplier::getAsDouble)
            .description("Pages that a guest had to wait for")
            .tags("guest", Long.toString(guest))
            .strongReference(true)
            .register(registry);
    return () -> {
      registry.remove(remaining);
      registry.remove(faulted);
      remaining.close();
      faulted.close();
    };
  }

  /** A copy of the fault latencies recorded so far, in nanoseconds. */
  public Histogram faultLatencies() {
    return faultLatency.copy();
  }

  /** Fault latency as a Prometheus histogram with buckets at powers of two of a microsecond. */
  private final class FaultLatencyCollector implements Collector {
    private static final int BUCKETS = 24;

    @Override
    public MetricSnapshot collect() {
      Histogram latencies = faultLatency.copy();
      double[] upperBoundsSeconds = new double[BUCKETS + 1];
      long[] counts = new long[BUCKETS + 1];
      long below = 0;
      for (int i = 0; i < BUCKETS; i++) {
        long upperNanos = 1000L << i;
        upperBoundsSeconds[i] = upperNanos / 1e9;
        long upTo = latencies.getCountBetweenValues(0, upperNanos);
        counts[i] = upTo - below;
        below = upTo;
      }
      upperBoundsSeconds[BUCKETS] = Double.POSITIVE_INFINITY;
      counts[BUCKETS] = latencies.getTotalCount() - below;
      return HistogramSnapshot.builder()
          .name("postcopyd_fault_latency_seconds")
          .help("Time from reading a fault to the placement of its page")
          .dataPoint(
              HistogramSnapshot.HistogramDataPointSnapshot.builder()
                  .classicHistogramBuckets(ClassicHistogramBuckets.of(upperBoundsSeconds, counts))
                  .sum(faultNanos.sum() / 1e9)
                  .build())
          .build();
    }
  }
}
