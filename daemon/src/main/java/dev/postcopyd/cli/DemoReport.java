package dev.postcopyd.cli;

import dev.postcopyd.postcopy.LoadProgress;
import java.io.PrintStream;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.HdrHistogram.Histogram;

/**
 * What {@code postcopyd demo} shows: the conversation as it happens, and the figures at its end.
 * Used by one thread.
 */
final class DemoReport {
  private static final int LONGEST_LINE = 230;
  private static final int BAR = 40;

  private final PrintStream out;
  private final long startNanos = System.nanoTime();
  private final List<String> states = new ArrayList<>();
  private Instant entered = Instant.EPOCH;

  DemoReport(PrintStream out) {
    this.out = out;
    out.println("The QMP conversation (milliseconds since the demo's start):");
  }

  void sent(String message) {
    line("->", message);
  }

  void received(String message) {
    line("<-", message);
  }

  /** The migration has entered a state. */
  void entered(String status, Instant at) {
    if (!states.isEmpty()) {
      double millis = Duration.between(entered, at).toNanos() / 1e6;
      states.add(states.removeLast() + String.format(Locale.ROOT, "%10.1f ms", millis));
    }
    states.add(String.format(Locale.ROOT, "  %-16s", status));
    entered = at;
  }

  private void line(String direction, String message) {
    String shown =
        message.length() <= LONGEST_LINE ? message : message.substring(0, LONGEST_LINE) + " …";
    out.printf(
        Locale.ROOT, "%9.1f %s %s%n", (System.nanoTime() - startNanos) / 1e6, direction, shown);
  }

  void states() {
    out.printf("%nThe states, and how long each lasted:%n");
    states.forEach(out::println);
  }

  void pages(LoadProgress progress) {
    out.printf("%nPages of 4 KiB by path:%n");
    out.printf(Locale.ROOT, "  %-34s %10d%n", "data", progress.dataBytes() / 4096);
    out.printf(Locale.ROOT, "  %-34s %10d%n", "zero", progress.zeroBytes() / 4096);
    out.printf(Locale.ROOT, "  %-34s %10d%n", "of these by a fault", progress.faults());
  }

  /** Latencies in nanoseconds, by powers of two of a microsecond. */
  void latencies(String what, Histogram latencies) {
    out.printf("%nLatency, %s: %d samples%n", what, latencies.getTotalCount());
    if (latencies.getTotalCount() == 0) {
      return;
    }
    out.printf(
        Locale.ROOT,
        "  p50 %.1f µs   p90 %.1f µs   p99 %.1f µs   p99.9 %.1f µs   max %.1f µs%n",
        latencies.getValueAtPercentile(50) / 1e3,
        latencies.getValueAtPercentile(90) / 1e3,
        latencies.getValueAtPercentile(99) / 1e3,
        latencies.getValueAtPercentile(99.9) / 1e3,
        latencies.getMaxValue() / 1e3);
    long lower = 0;
    for (long upper = 1000; lower <= latencies.getMaxValue(); upper *= 2) {
      long count = latencies.getCountBetweenValues(lower, upper - 1);
      if (count > 0) {
        int length = (int) Math.ceil((double) BAR * count / latencies.getTotalCount());
        out.printf(Locale.ROOT, "  %9d µs.. %9d  %s%n", lower / 1000, count, "#".repeat(length));
      }
      lower = upper;
    }
  }

  void comparison(long totalBytes, long differingPages) {
    out.printf(
        "%n%s%n",
        differingPages == 0
            ? "Compared with the snapshot: all " + (totalBytes >> 20) + " MiB of RAM are the same."
            : "Compared with the snapshot: " + differingPages + " pages DIFFER.");
  }
}
