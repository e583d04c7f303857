package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Sixteen guests of one snapshot, loaded completely: all at once, and one after the other, by one
 * daemon. The guests only wait meanwhile, and in the end look at every page.
 */
final class HandoverClones implements BenchmarkTable {
  private static final int CLONES = 16;
  private static final long POLL_MILLIS = 5;
  private static final long PATIENCE_NANOS = 100_000_000_000L;

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    long lengthBytes = (workbench.quick() ? 64 : 512) * Workbench.MIB;
    int clones = workbench.quick() ? 4 : CLONES;
    Path file = workbench.warmFile(lengthBytes);
    Samples single = new Samples();
    Samples together = new Samples();
    Samples resident = new Samples();
    Samples anonymous = new Samples();
    int rounds = Math.min(workbench.rounds(), 3);
    for (int round = 0; round < rounds; round++) {
      try (HandoverHandler handler =
          HandoverHandler.startProgram(
              workbench, file, "", List.of("--working-set", "off", "--no-keep-fd"))) {
        double oneAfterTheOther = 0;
        for (int i = 0; i < clones; i++) {
          oneAfterTheOther += loadMillis(workbench, handler, 1, lengthBytes);
        }
        single.add(oneAfterTheOther);
        ProcessFigures.forgetPeakResident(handler.pid());
        together.add(loadMillis(workbench, handler, clones, lengthBytes));
        resident.add(ProcessFigures.peakResidentMib(handler.pid()));
        anonymous.add(ProcessFigures.anonymousMib(handler.pid()));
      }
    }
    MarkdownTable table = new MarkdownTable("figure", "value", "wanted");
    String what = clones + " × " + lengthBytes / Workbench.MIB + " MiB";
    table.row(what + ", one after the other, ms", single.toString(0), "");
    table.row(what + ", all at once, ms", together.toString(0), "");
    table.row("ratio", together.over(single).toString(2), "≤ 1.1");
    table.row("most resident in the daemon, MiB", resident.toString(1), "≤ 190.7 (200 MB)");
    table.row("of that its own memory afterwards, MiB", anonymous.toString(1), "");
    return table;
  }

  /** From the first handover, when all guests are there, until nothing is missing in any. */
  private static double loadMillis(
      Workbench workbench, HandoverHandler handler, int count, long lengthBytes)
      throws IOException {
    List<HandedOverGuest> guests = new ArrayList<>();
    try {
      for (int i = 0; i < count; i++) {
        guests.add(
            HandedOverGuest.start(
                workbench,
                handler.socket(),
                List.of("--prime", "--wait-for-line", "--region", "size=" + lengthBytes)));
      }
      for (HandedOverGuest guest : guests) {
        guest.awaitPrimed();
      }
      long startNanos = System.nanoTime();
      for (HandedOverGuest guest : guests) {
        guest.connect();
      }
      for (HandedOverGuest guest : guests) {
        guest.awaitReady();
      }
      awaitLoaded(handler, count, startNanos);
      double millis = (System.nanoTime() - startNanos) / 1e6;
      for (HandedOverGuest guest : guests) {
        guest.verify();
        guest.end();
      }
      return millis;
    } finally {
      for (HandedOverGuest guest : guests) {
        guest.close();
      }
    }
  }

  private static void awaitLoaded(HandoverHandler handler, int count, long startNanos)
      throws IOException {
    while (handler.loadedGuests() < count) {
      if (System.nanoTime() - startNanos > PATIENCE_NANOS) {
        throw new IOException("not loaded: " + handler.guests());
      }
      Settling.sleep(POLL_MILLIS);
    }
  }
}
