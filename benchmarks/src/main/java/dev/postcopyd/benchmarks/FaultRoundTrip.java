package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;

/**
 * How long a thread waits for one page: from the touch until the touch is over.
 *
 * <p>On one CPU this is the cost of the path itself. Across CPUs the wake-up of an idle CPU comes
 * on top, twice, and on a virtual machine that is a multiple of everything else; those rows say
 * what to expect, not how good the handler is.
 */
final class FaultRoundTrip implements BenchmarkTable {
  private static final long LENGTH_BYTES = 256 * Workbench.MIB;

  private record Placed(String name, int clientCpu, int faultCpu, boolean targets) {}

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table =
        new MarkdownTable("where", "figure", "C, µs", "postcopyd, µs", "ratio", "wanted");
    Path file = workbench.warmFile(LENGTH_BYTES);
    long touches = workbench.quick() ? 5_000 : 30_000;
    for (Placed placed :
        new Placed[] {
          new Placed("both on CPU 0", 0, 0, true),
          new Placed("client on CPU 0, handler on CPU 1", 0, 1, false),
          new Placed("anywhere", Scenario.ANY_CPU, Scenario.ANY_CPU, false)
        }) {
      int rounds = placed.targets ? workbench.rounds() : Math.min(workbench.rounds(), 5);
      Scenario scenario = Scenario.faults(LENGTH_BYTES, touches, placed.clientCpu, placed.faultCpu);
      PeerSamples samples = PeerSamples.of(workbench, scenario, file, rounds);
      samples.row(table, placed.name, "p50", wanted(placed, "≤ 1.05"), m -> m.micros("p50_ns"));
      samples.row(table, placed.name, "p90", "", m -> m.micros("p90_ns"));
      samples.row(table, placed.name, "p99", wanted(placed, "≤ 1.15"), m -> m.micros("p99_ns"));
      samples.row(table, placed.name, "p99.9", "", m -> m.micros("p999_ns"));
      if (placed.targets) {
        firstFaults(table, samples);
      }
    }
    return table;
  }

  /** The same runs' beginnings: each is a fresh process. */
  private static void firstFaults(MarkdownTable table, PeerSamples samples) {
    String name = "both on CPU 0, fresh process";
    Samples steady = samples.ofC(m -> m.micros("mean_after_1000_ns"));
    Samples first = samples.ofJava(m -> m.micros("first_ns"));
    table.row(
        name,
        "first fault",
        samples.ofC(m -> m.micros("first_ns")).toString(2),
        first.toString(2),
        "",
        "≤ 150 µs");
    againstSteady(table, samples, steady, "mean of first 100", "mean_first_100_ns", "");
    againstSteady(table, samples, steady, "mean of first 1,000", "mean_first_1000_ns", "≤ 1.3");
  }

  private static void againstSteady(
      MarkdownTable table,
      PeerSamples samples,
      Samples steady,
      String name,
      String key,
      String wanted) {
    Samples ofJava = samples.ofJava(m -> m.micros(key));
    table.row(
        "both on CPU 0, fresh process",
        name + "; ratio to C's mean of the rest, " + steady.toString(2),
        samples.ofC(m -> m.micros(key)).toString(2),
        ofJava.toString(2),
        ofJava.over(steady).toString(2),
        wanted);
  }

  private static String wanted(Placed placed, String target) {
    return placed.targets ? target : "";
  }
}
