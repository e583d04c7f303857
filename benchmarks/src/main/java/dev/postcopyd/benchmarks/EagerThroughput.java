package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** How fast a client's memory is filled when nobody touches it, from a file in the page cache. */
final class EagerThroughput implements BenchmarkTable {
  private static final long HUGE_PAGE_BYTES = 2 * Workbench.MIB;

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table =
        new MarkdownTable("pages", "loaders", "C, GiB/s", "postcopyd, GiB/s", "ratio", "wanted");
    long lengthBytes = workbench.quick() ? 256 * Workbench.MIB : 2 * Workbench.GIB;
    Path file = workbench.warmFile(lengthBytes);
    row(workbench, table, "4 KiB", Scenario.eager(lengthBytes, 4096, 1), file, "≥ 0.98");
    row(workbench, table, "4 KiB", Scenario.eager(lengthBytes, 4096, 2), file, "≥ 0.95");
    try (HugePageReserve reserve = HugePageReserve.of(lengthBytes / HUGE_PAGE_BYTES)) {
      if (reserve.isEnough()) {
        Scenario huge = Scenario.eager(lengthBytes, HUGE_PAGE_BYTES, 1);
        row(workbench, table, "2 MiB", huge, file, "≥ 0.95");
      } else {
        table.row("2 MiB", "1", "not measured: no huge pages to be had", "", "", "≥ 0.95");
      }
    }
    plainCopy(workbench, table, lengthBytes, file);
    return table;
  }

  private static void row(
      Workbench workbench,
      MarkdownTable table,
      String pages,
      Scenario scenario,
      Path file,
      String wanted)
      throws IOException {
    PeerSamples samples = PeerSamples.of(workbench, scenario, file, workbench.rounds());
    double lengthGib = (double) scenario.lengthBytes() / Workbench.GIB;
    samples.row(
        table,
        pages,
        Integer.toString(scenario.loaders()),
        wanted,
        m -> lengthGib / m.seconds("loaded_ns"));
  }

  /** What reading the file into one's own memory costs, without any userfaultfd. */
  private static void plainCopy(
      Workbench workbench, MarkdownTable table, long lengthBytes, Path file) throws IOException {
    Samples gibPerSecond = new Samples();
    for (int round = 0; round < workbench.rounds(); round++) {
      Measurements measured =
          MeasuredProcess.run(
              List.of(
                  workbench.cProgram("handler"),
                  "copy",
                  file.toString(),
                  Long.toString(lengthBytes)));
      gibPerSecond.add((double) lengthBytes / Workbench.GIB / measured.seconds("loaded_ns"));
    }
    table.row("4 KiB", "pread + memcpy", gibPerSecond.toString(2), "", "", "");
  }
}
