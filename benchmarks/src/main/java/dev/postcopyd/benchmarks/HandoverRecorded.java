package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * What a recorded working set spares: a guest touches a fifth of its pages in some order, and then
 * a clone the same pages in the same order. Faults are counted by the kernel, in the guest.
 */
final class HandoverRecorded implements BenchmarkTable {
  private static final long LENGTH_BYTES = 256 * Workbench.MIB;
  private static final long TOUCHES = LENGTH_BYTES / 4096 / 5;

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table =
        new MarkdownTable(
            "from the handover to the first touch",
            "faults without a recording",
            "with",
            "share that is gone",
            "wanted");
    Path file = workbench.warmFile(LENGTH_BYTES);
    for (long delayMillis : new long[] {200, 0}) {
      Samples without = new Samples();
      Samples with = new Samples();
      Samples gone = new Samples();
      for (int round = 0; round < workbench.rounds(); round++) {
        Files.deleteIfExists(Path.of(file + ".ws"));
        double before = faults(workbench, file, delayMillis);
        double after = faults(workbench, file, delayMillis);
        without.add(before);
        with.add(after);
        gone.add(1 - after / before);
      }
      Files.deleteIfExists(Path.of(file + ".ws"));
      table.row(
          delayMillis + " ms",
          without.toString(0),
          with.toString(0),
          gone.toString(3),
          delayMillis == 0 ? "" : "≥ 0.95");
    }
    return table;
  }

  private static double faults(Workbench workbench, Path file, long delayMillis)
      throws IOException {
    try (HandoverHandler handler =
            HandoverHandler.startProgram(
                workbench, file, ",eager=off,fault-around=off", List.of("--no-keep-fd"));
        HandedOverGuest guest =
            HandedOverGuest.start(
                workbench,
                handler.socket(),
                List.of(
                    "--prime",
                    "--region",
                    "size=" + LENGTH_BYTES,
                    "--touches",
                    Long.toString(TOUCHES),
                    "--delay-ms",
                    Long.toString(delayMillis)))) {
      guest.awaitReady();
      Measurements measured = guest.run();
      guest.end();
      handler.awaitNoGuest();
      return measured.get("kernel-faults");
    }
  }
}
