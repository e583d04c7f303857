package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * What fault-around gains: a guest touches all of its pages, served with it and without it by the
 * same program, nothing else loaded ahead.
 */
final class HandoverAround implements BenchmarkTable {
  private static final long LENGTH_BYTES = 256 * Workbench.MIB;

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table =
        new MarkdownTable(
            "order", "touches per second without", "with", "ratio", "wanted", "faults with");
    Path file = workbench.warmFile(LENGTH_BYTES);
    row(workbench, table, file, "random", List.of("--order", "random"), "≥ 1.8");
    row(workbench, table, file, "sequential", List.of("--order", "sequential"), "≥ 1");
    row(
        workbench,
        table,
        file,
        "Zipf, 20,000 touches",
        List.of("--order", "zipf:1", "--touches", "20000"),
        "≥ 1");
    row(
        workbench,
        table,
        file,
        "random, 2,000 touches",
        List.of("--order", "random", "--touches", "2000"),
        "≥ 1");
    return table;
  }

  private static void row(
      Workbench workbench,
      MarkdownTable table,
      Path file,
      String name,
      List<String> order,
      String wanted)
      throws IOException {
    if (!workbench.wants(name)) {
      return;
    }
    Samples without = new Samples();
    Samples with = new Samples();
    Samples faults = new Samples();
    for (int round = 0; round < workbench.rounds(); round++) {
      boolean[] turns = round % 2 == 0 ? new boolean[] {false, true} : new boolean[] {true, false};
      for (boolean around : turns) {
        Measurements measured = measure(workbench, file, order, around);
        (around ? with : without).add(measured.get("touches-per-second"));
        if (around) {
          faults.add(measured.get("kernel-faults"));
        }
      }
    }
    table.row(
        name,
        without.toString(0),
        with.toString(0),
        with.over(without).toString(2),
        wanted,
        faults.toString(0));
  }

  private static Measurements measure(
      Workbench workbench, Path file, List<String> order, boolean around) throws IOException {
    String options = ",eager=off,fault-around=" + (around ? "adaptive" : "off");
    List<String> guestOptions = new ArrayList<>(order);
    guestOptions.addAll(List.of("--prime", "--region", "size=" + LENGTH_BYTES, "--pin", "0"));
    try (HandoverHandler handler = HandoverHandler.start(workbench, Peer.JAVA, file, 0, options);
        HandedOverGuest guest = HandedOverGuest.start(workbench, handler.socket(), guestOptions)) {
      guest.awaitReady();
      handler.awaitServing();
      handler.pinFaultThreads(0);
      Measurements measured = guest.run();
      guest.verifyTouched();
      guest.end();
      return measured;
    }
  }
}
