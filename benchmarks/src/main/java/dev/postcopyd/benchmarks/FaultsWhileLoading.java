package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;

/**
 * The same wait while one eager loader works, until every page has been touched: the guest's worst
 * hour, for it touches memory it does not have without a pause.
 *
 * <p>How long that lasts is in the table too, for a loader that stands aside has good latencies and
 * a guest that waits more often.
 */
final class FaultsWhileLoading implements BenchmarkTable {
  private record Placed(String name, int clientCpu, int faultCpu, int loaderCpu) {}

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table = new MarkdownTable("where", "figure", "C", "postcopyd", "ratio", "wanted");
    long lengthBytes = workbench.quick() ? 128 * Workbench.MIB : Workbench.GIB;
    Path file = workbench.warmFile(lengthBytes);
    for (Placed placed :
        new Placed[] {
          new Placed("client and faults on CPU 0, loader on CPU 1", 0, 0, 1),
          new Placed("anywhere", Scenario.ANY_CPU, Scenario.ANY_CPU, Scenario.ANY_CPU)
        }) {
      Scenario scenario =
          Scenario.faultsWhileLoading(
              lengthBytes, placed.clientCpu, placed.faultCpu, placed.loaderCpu, "polite");
      PeerSamples samples = PeerSamples.of(workbench, scenario, file, workbench.rounds());
      samples.row(table, placed.name, "p50, µs", "", m -> m.micros("p50_ns"));
      samples.row(table, placed.name, "p99, µs", "≤ 1.5", m -> m.micros("p99_ns"));
      samples.row(table, placed.name, "p99.9, µs", "", m -> m.micros("p999_ns"));
      samples.row(table, placed.name, "touches that waited", "", m -> m.get("faults"));
      samples.row(table, placed.name, "all touched after, ms", "", m -> m.millis("touched_ns"));
    }
    return table;
  }
}
