package dev.postcopyd.view;

import dev.postcopyd.incoming.LoadLook;
import dev.postcopyd.incoming.RamFigures;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.loader.LoadTimes;
import dev.postcopyd.postcopy.PageMap;
import dev.postcopyd.qmp.codec.QmpJson;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import org.HdrHistogram.Histogram;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * The state of a daemon as JSON, of bounded size however large and many its guests are: a map of at
 * most {@value #MOST_CELLS} cells for one of them, and a line for each of the first {@value
 * #MOST_GUESTS}. Used by one thread.
 */
final class ViewJson {
  static final int MOST_CELLS = 2048;
  static final int MOST_GUESTS = 256;

  private static final int LATENCY_BUCKETS = 24;
  private static final double NANOS_PER_MILLI = 1e6;
  private static final double NANOS_PER_MICRO = 1e3;

  private final WatchedDaemon watched;

  ViewJson(WatchedDaemon watched) {
    this.watched = watched;
  }

  /**
   * One look.
   *
   * @param wanted the guest that is shown in full; the first one, if there is none of that number
   */
  ObjectNode look(long wanted) {
    List<LoadLook> loads = watched.loads();
    long nowNanos = System.nanoTime();
    ObjectNode view = QmpJson.object();
    view.put("version", watched.version());
    view.put("guest", watched.guest());
    view.put("clock-ms", nowNanos / NANOS_PER_MILLI);
    view.put("guests-total", loads.size());
    ArrayNode guests = view.putArray("guests");
    loads.stream().limit(MOST_GUESTS).forEach(load -> addGuest(guests.addObject(), load));
    loads.stream()
        .filter(load -> load.id() == wanted)
        .findFirst()
        .or(() -> loads.stream().findFirst())
        .ifPresent(load -> addLoad(view.putObject("load"), load, nowNanos));
    addLatencies(view.putObject("latency"), watched.faultLatencies());
    return view;
  }

  private static void addGuest(ObjectNode guest, LoadLook load) {
    guest.put("id", load.id());
    guest.put("status", name(load.status()));
    load.ram().ifPresent(ram -> addRam(guest.putObject("ram"), ram));
  }

  private static void addLoad(ObjectNode shown, LoadLook load, long nowNanos) {
    addGuest(shown, load);
    load.source().ifPresent(source -> shown.put("source", source));
    load.errorDesc().ifPresent(reason -> shown.put("error", reason));
    addStates(shown.putArray("states"), load.history(), nowNanos);
    load.engine()
        .ifPresent(engine -> addMap(shown.putObject("map"), PageMap.of(engine, MOST_CELLS)));
  }

  private static void addRam(ObjectNode to, RamFigures ram) {
    to.put("total", ram.totalBytes());
    to.put("data", ram.dataBytes());
    to.put("zero", ram.zeroBytes());
    to.put("remaining", ram.remainingBytes());
    to.put("requests", ram.requests());
  }

  /**
   * Each state with how long it lasted, or has lasted so far; the last of an ended load has no end.
   */
  private static void addStates(ArrayNode states, List<LoadTimes.Entry> history, long nowNanos) {
    for (int i = 0; i < history.size(); i++) {
      LoadTimes.Entry entry = history.get(i);
      boolean isLast = i == history.size() - 1;
      ObjectNode state = states.addObject();
      state.put("status", name(entry.status()));
      state.put("live", isLast && !isEnd(entry.status()));
      if (!isLast || !isEnd(entry.status())) {
        long end = isLast ? nowNanos : history.get(i + 1).sinceNanos();
        state.put("ms", (end - entry.sinceNanos()) / NANOS_PER_MILLI);
      }
    }
  }

  private static boolean isEnd(LoadStatus status) {
    return switch (status) {
      case NONE, COMPLETED, FAILED, CANCELLED -> true;
      case SETUP,
          ACTIVE,
          POSTCOPY_DEVICE,
          POSTCOPY_ACTIVE,
          POSTCOPY_PAUSED,
          POSTCOPY_RECOVER_SETUP,
          POSTCOPY_RECOVER,
          CANCELLING ->
          false;
    };
  }

  /** Four numbers a cell: on demand, eager, zero, awaited; how many pages it has is known. */
  private static void addMap(ObjectNode to, PageMap map) {
    to.put("cell-bytes", map.cellBytes());
    ArrayNode blocks = to.putArray("blocks");
    for (PageMap.Block block : map.blocks()) {
      ObjectNode shown = blocks.addObject();
      shown.put("name", block.name());
      shown.put("bytes", block.sizeBytes());
      shown.put("page-bytes", block.pageBytes());
      shown.put("pages-per-cell", block.pagesPerCell());
      ArrayNode cells = shown.putArray("cells");
      for (PageMap.Cell cell : block.cells()) {
        cells.add(cell.onDemand()).add(cell.eager()).add(cell.zero()).add(cell.awaited());
      }
    }
  }

  private static void addLatencies(ObjectNode to, Histogram latencies) {
    to.put("count", latencies.getTotalCount());
    ArrayNode buckets = to.putArray("buckets");
    if (latencies.getTotalCount() == 0) {
      return;
    }
    to.put("p50-us", latencies.getValueAtPercentile(50) / NANOS_PER_MICRO);
    to.put("p99-us", latencies.getValueAtPercentile(99) / NANOS_PER_MICRO);
    to.put("max-us", latencies.getMaxValue() / NANOS_PER_MICRO);
    long below = 0;
    for (int i = 0; i < LATENCY_BUCKETS; i++) {
      long upperNanos = TimeUnit.MICROSECONDS.toNanos(1L << i);
      long upTo = latencies.getCountBetweenValues(0, upperNanos);
      addBucket(buckets, 1L << i, upTo - below);
      below = upTo;
    }
    addBucket(buckets, -1, latencies.getTotalCount() - below);
  }

  /** Empty ones are left out. */
  private static void addBucket(ArrayNode buckets, long upToMicros, long count) {
    if (count > 0) {
      ObjectNode bucket = buckets.addObject();
      bucket.put("count", count);
      if (upToMicros > 0) {
        bucket.put("up-to-us", upToMicros);
      }
    }
  }

  private static String name(LoadStatus status) {
    return status.name().toLowerCase(Locale.ROOT).replace('_', '-');
  }
}
