package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import tools.jackson.databind.JsonNode;

/**
 * A stock QEMU comes back from a snapshot: by its own load, and by the daemon through its monitor.
 * Every run starts both programs anew and ends with the guest's check of every page; time is
 * counted from the moment before {@code migrate-incoming} is sent.
 */
final class InstantResume implements BenchmarkTable {
  private static final int RECORDINGS = 2;

  private static final List<Cell> CELLS =
      List.of(
          new Cell(512, false, true, false),
          new Cell(512, true, true, false),
          new Cell(2048, false, true, false),
          new Cell(2048, true, true, false),
          new Cell(512, false, false, false),
          new Cell(512, false, true, true));

  /** How many of the cells are measured to see that it runs. */
  private static final int QUICK_CELLS = 2;

  /**
   * What is compared.
   *
   * @param running whether the guest ran when its snapshot was taken; one that did not is started
   *     with {@code cont} as soon as it can be
   */
  private record Cell(int dataMib, boolean cold, boolean running, boolean qemu11) {
    /**
     * It keeps the file in its mapping, so that the file is never cold, and knows no paused guest.
     */
    boolean hasPeerInC() {
      return running && !cold;
    }

    String name() {
      String size = dataMib < 1024 ? dataMib + " MiB" : dataMib / 1024 + " GiB";
      return size
          + (cold ? " cold" : " warm")
          + (running ? "" : ", paused")
          + (qemu11 ? ", QEMU 11" : "");
    }
  }

  /** What every way has measured in one cell, round by round. */
  private record Runs(Map<ResumeWay, List<Measurements>> byWay) {
    Samples of(ResumeWay way, String key) {
      Samples samples = new Samples();
      byWay.getOrDefault(way, List.of()).forEach(run -> samples.add(run.get(key)));
      return samples;
    }
  }

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table =
        new MarkdownTable(
            "data",
            "figure",
            "stock QEMU",
            "postcopyd",
            "ratio",
            "with a recording",
            "ratio",
            "C source",
            "wanted");
    for (Cell cell : CELLS.subList(0, workbench.quick() ? QUICK_CELLS : CELLS.size())) {
      if (!workbench.wants(cell.name())) {
        continue;
      }
      if (cell.qemu11 && !Files.exists(workbench.qemu11())) {
        table.row(cell.name(), "not measured: no QEMU 11", "", "", "", "", "", "", "");
      } else {
        rows(table, cell, measure(workbench, cell));
      }
    }
    return table;
  }

  private static Runs measure(Workbench workbench, Cell cell) throws IOException {
    GuestSnapshot snapshot = GuestSnapshot.of(workbench, cell.dataMib, cell.running);
    Path recorded = Path.of(snapshot.file() + ".recorded");
    Files.deleteIfExists(recorded);
    Measurement measurement = new Measurement(workbench, cell, snapshot, recorded);
    for (int i = 0; i < RECORDINGS; i++) {
      Measurements _ = measurement.byDaemon(recorded.toString(), i);
    }
    if (!Files.exists(recorded)) {
      throw new IOException("no working set was recorded in " + recorded);
    }
    Map<ResumeWay, List<Measurements>> runs = new EnumMap<>(ResumeWay.class);
    for (int round = 0; round < workbench.rounds(); round++) {
      for (ResumeWay way : ResumeWay.inOrderOf(round)) {
        if (way == ResumeWay.C_SOURCE && !cell.hasPeerInC()) {
          continue;
        }
        runs.computeIfAbsent(way, key -> new ArrayList<>()).add(measurement.run(way, round));
      }
    }
    return new Runs(runs);
  }

  private static void rows(MarkdownTable table, Cell cell, Runs runs) {
    String resume = cell.cold ? "" : "≤ 20 ms";
    if (cell.dataMib == 2048) {
      resume = cell.cold ? "ratio ≤ 0.02" : "≤ 20 ms, ratio ≤ 0.067";
    }
    row(table, cell, runs, "migrate-incoming → RESUME, ms", "resume_ms", 1, resume);
    row(
        table,
        cell,
        runs,
        "→ first tick, ms",
        "tick_ms",
        1,
        "ratios < 1; recording ≤ " + (cell.cold ? 120 : 60) + " ms");
    row(table, cell, runs, "→ completed, ms", "completed_ms", 0, "");
    for (String[] figure :
        new String[][] {
          {"sent, MB", "sent_mb", "0"},
          {"pages asked for", "faults", "0"},
          {"postcopyd resident, MiB", "resident_mib", "1"}
        }) {
      int decimals = Integer.parseInt(figure[2]);
      table.row(
          cell.name(),
          figure[0],
          "",
          runs.of(ResumeWay.FRESH, figure[1]).toString(decimals),
          "",
          runs.of(ResumeWay.RECORDED, figure[1]).toString(decimals),
          "",
          "",
          "");
    }
  }

  private static void row(
      MarkdownTable table,
      Cell cell,
      Runs runs,
      String figure,
      String key,
      int decimals,
      String wanted) {
    Samples stock = runs.of(ResumeWay.STOCK, key);
    Samples fresh = runs.of(ResumeWay.FRESH, key);
    Samples recorded = runs.of(ResumeWay.RECORDED, key);
    table.row(
        cell.name(),
        figure,
        stock.toString(decimals),
        fresh.toString(decimals),
        fresh.over(stock).toString(3),
        recorded.toString(decimals),
        recorded.over(stock).toString(3),
        cell.hasPeerInC() ? runs.of(ResumeWay.C_SOURCE, key).toString(decimals) : "",
        wanted);
  }

  /** The runs of one cell. */
  private record Measurement(
      Workbench workbench, Cell cell, GuestSnapshot snapshot, Path recorded) {

    Measurements run(ResumeWay way, int round) throws IOException {
      return switch (way) {
        case STOCK -> byQemu(round);
        case FRESH -> byDaemon("off", round);
        case RECORDED -> {
          // Each run adds to its file, and each is to begin with the same.
          Path copy = Path.of(recorded + ".run");
          Files.copy(recorded, copy, StandardCopyOption.REPLACE_EXISTING);
          yield byDaemon(copy.toString(), round);
        }
        case C_SOURCE -> byC(round);
      };
    }

    private DestinationQemu startQemu() throws IOException {
      return DestinationQemu.start(workbench, snapshot, cell.qemu11 ? workbench.qemu11() : null);
    }

    private Measurements byQemu(int round) throws IOException {
      new MachinePreparation(workbench).touch(snapshot);
      try (DestinationQemu qemu = startQemu();
          TimedQmp monitor = TimedQmp.connect(qemu.monitor(), qemu.process())) {
        monitor.enable("mapped-ram", "events");
        return new Measurements(load(qemu, monitor, "completed", round));
      }
    }

    private Measurements byC(int round) throws IOException {
      new MachinePreparation(workbench).touch(snapshot);
      Path socket = StreamedLoad.socket(workbench);
      Files.deleteIfExists(socket);
      try (DestinationQemu qemu = startQemu();
          TimedQmp monitor = TimedQmp.connect(qemu.monitor(), qemu.process());
          MeasuredProcess source = StreamedLoad.startC(workbench, snapshot)) {
        monitor.enable("postcopy-ram", "postcopy-preempt", "events");
        Settling.await(qemu.process().pid());
        new MachinePreparation(workbench).warm(snapshot.file());
        long startNanos = System.nanoTime();
        monitor.migrateIncoming("unix:" + socket);
        source.writeLine("");
        return new Measurements(figures(qemu, monitor, startNanos, round));
      }
    }

    Measurements byDaemon(String workingSet, int round) throws IOException {
      new MachinePreparation(workbench).touch(snapshot);
      try (DestinationQemu qemu = startQemu();
          RunningDaemon daemon =
              RunningDaemon.start(
                  workbench, "qemu:" + qemu.monitor(), List.of("--working-set", workingSet))) {
        daemon.qmp().enable("mapped-ram", "postcopy-ram", "events");
        ProcessFigures.forgetPeakResident(daemon.process().pid());
        Map<String, Double> figures = load(qemu, daemon.qmp(), "postcopy-active", round);
        return new Measurements(figures).and(ofDaemon(daemon));
      }
    }

    private static Map<String, Double> ofDaemon(RunningDaemon daemon) throws IOException {
      JsonNode ram = daemon.qmp().execute("query-migrate").path("ram");
      return Map.of(
          "resident_mib",
          ProcessFigures.peakResidentMib(daemon.process().pid()),
          "sent_mb",
          ram.path("transferred").asDouble() / 1e6,
          "faults",
          ram.path("postcopy-requests").asDouble());
    }

    /**
     * One load.
     *
     * @param loaded the status at which a paused guest can be started
     */
    private Map<String, Double> load(DestinationQemu qemu, TimedQmp qmp, String loaded, int round)
        throws IOException {
      Settling.await(qemu.process().pid());
      MachinePreparation preparation = new MachinePreparation(workbench);
      if (cell.cold) {
        preparation.cold(snapshot.file());
      } else {
        preparation.warm(snapshot.file());
      }
      long startNanos = System.nanoTime();
      qmp.migrateIncoming("file:" + snapshot.file());
      if (!cell.running) {
        long _ = qmp.awaitStatus(loaded);
        JsonNode _ = qmp.execute("cont");
      }
      return figures(qemu, qmp, startNanos, round);
    }

    private static Map<String, Double> figures(
        DestinationQemu qemu, TimedQmp qmp, long startNanos, int round) throws IOException {
      Map<String, Double> figures = new HashMap<>();
      figures.put("completed_ms", (qmp.awaitStatus("completed") - startNanos) / 1e6);
      figures.put("resume_ms", (qmp.awaitEvent("RESUME") - startNanos) / 1e6);
      figures.put("tick_ms", (qemu.awaitFirstTick() - startNanos) / 1e6);
      qemu.verify(round % 2 == 0);
      return figures;
    }
  }
}
