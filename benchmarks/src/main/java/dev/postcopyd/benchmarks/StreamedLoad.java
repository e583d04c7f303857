package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import tools.jackson.databind.JsonNode;

/**
 * A guest's memory on its way into a stock QEMU: as fast as it goes, and page by page as the guest
 * asks for it. The peer is {@code source.c}, which sends the same records.
 */
final class StreamedLoad implements BenchmarkTable {
  private static final String FULL = "full load";
  private static final String ON_DEMAND = "on demand";

  /** Pages in one writev of {@code source.c}: 256 KiB, more are no faster. */
  private static final String C_BATCH_PAGES = "64";

  /** The bandwidth at which no page comes by itself while the guest asks for them all. */
  private static final long NEXT_TO_NOTHING = 1;

  private enum Way {
    C,
    STREAM,
    QEMU
  }

  /** What every way has measured, round by round. */
  private record Runs(Map<Way, List<Measurements>> byWay) {
    Samples of(Way way, String key) {
      Samples samples = new Samples();
      byWay.getOrDefault(way, List.of()).forEach(run -> samples.add(run.get(key)));
      return samples;
    }
  }

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table =
        new MarkdownTable("what", "figure", "C", "stream:", "ratio", "qemu:", "ratio", "wanted");
    if (workbench.wants(FULL)) {
      fullLoad(workbench, table);
    }
    if (workbench.wants(ON_DEMAND)) {
      onDemand(workbench, table);
    }
    return table;
  }

  private static void fullLoad(Workbench workbench, MarkdownTable table) throws IOException {
    GuestSnapshot snapshot = GuestSnapshot.of(workbench, workbench.quick() ? 512 : 2048);
    Runs runs =
        runs(workbench, Way.values(), (way, round) -> load(workbench, snapshot, way, round));
    String what = snapshot.dataMib() + " MiB of data, " + FULL;
    row(table, what, runs, "GB/s", "gb_per_s", 2, "ratio ≥ 0.95");
    row(table, what, runs, "CPU of the source, s", "cpu_s", 2, "ratio ≤ 1.2");
    row(table, what, runs, "CPU of QEMU, s", "qemu_cpu_s", 2, "");
    row(table, what, runs, "pages asked for", "faults", 0, "");
    table.row(
        what,
        "resident, MiB",
        "",
        runs.of(Way.STREAM, "resident_mib").toString(1),
        "",
        runs.of(Way.QEMU, "resident_mib").toString(1),
        "",
        "≤ 143.1 (150 MB)");
  }

  private static void onDemand(Workbench workbench, MarkdownTable table) throws IOException {
    GuestSnapshot snapshot = GuestSnapshot.of(workbench, workbench.quick() ? 64 : 256);
    String what = snapshot.dataMib() + " MiB of data, " + ON_DEMAND;
    if (!Files.exists(workbench.qemu11())) {
      table.row(what, "not measured: no QEMU 11", "", "", "", "", "", "≤ 75");
      return;
    }
    Runs runs =
        runs(
            workbench,
            new Way[] {Way.C, Way.STREAM},
            (way, round) -> ask(workbench, snapshot, way));
    for (String[] figure :
        new String[][] {
          {"wait for a page, mean, µs", "latency_us", "≤ 75"}, {"pages asked for", "faults", ""}
        }) {
      Samples c = runs.of(Way.C, figure[1]);
      Samples stream = runs.of(Way.STREAM, figure[1]);
      table.row(
          what,
          figure[0],
          c.toString(1),
          stream.toString(1),
          stream.over(c).toString(2),
          "",
          "",
          figure[2]);
    }
  }

  @FunctionalInterface
  private interface Run {
    Measurements measure(Way way, int round) throws IOException;
  }

  private static Runs runs(Workbench workbench, Way[] ways, Run run) throws IOException {
    Map<Way, List<Measurements>> runs = new EnumMap<>(Way.class);
    for (int round = 0; round < workbench.rounds(); round++) {
      for (int i = 0; i < ways.length; i++) {
        Way way = ways[(i + round) % ways.length];
        runs.computeIfAbsent(way, key -> new ArrayList<>()).add(run.measure(way, round));
      }
    }
    return new Runs(runs);
  }

  private static void row(
      MarkdownTable table,
      String what,
      Runs runs,
      String figure,
      String key,
      int decimals,
      String wanted) {
    Samples c = runs.of(Way.C, key);
    Samples stream = runs.of(Way.STREAM, key);
    Samples qemu = runs.of(Way.QEMU, key);
    table.row(
        what,
        figure,
        c.toString(decimals),
        stream.toString(decimals),
        stream.over(c).toString(2),
        qemu.toString(decimals),
        qemu.over(c).toString(2),
        wanted);
  }

  private static Measurements load(Workbench workbench, GuestSnapshot snapshot, Way way, int round)
      throws IOException {
    MachinePreparation preparation = new MachinePreparation(workbench);
    preparation.touch(snapshot);
    preparation.warm(snapshot.file());
    try (DestinationQemu qemu = DestinationQemu.start(workbench, snapshot, null)) {
      Measurements measured =
          switch (way) {
            case C -> {
              try (TimedQmp monitor = waiting(workbench, qemu, "postcopy-preempt")) {
                yield loadByC(workbench, snapshot, qemu, monitor);
              }
            }
            case STREAM -> {
              try (TimedQmp monitor = waiting(workbench, qemu, "postcopy-preempt");
                  RunningDaemon daemon = streaming(workbench)) {
                yield loadByDaemon(snapshot, qemu, daemon, monitor);
              }
            }
            case QEMU -> {
              try (RunningDaemon daemon =
                  RunningDaemon.start(
                      workbench, "qemu:" + qemu.monitor(), List.of("--working-set", "off"))) {
                yield loadByDaemon(snapshot, qemu, daemon, daemon.qmp());
              }
            }
          };
      qemu.verify(round % 2 == 0);
      return measured;
    }
  }

  private static RunningDaemon streaming(Workbench workbench) throws IOException {
    return RunningDaemon.start(
        workbench,
        "stream:unix:" + socket(workbench) + ",preempt=on",
        List.of("--working-set", "off"));
  }

  static Path socket(Workbench workbench) {
    return workbench.directory().resolve("migration");
  }

  /** Has QEMU wait for a stream. */
  private static TimedQmp waiting(Workbench workbench, DestinationQemu qemu, String... capabilities)
      throws IOException {
    Files.deleteIfExists(socket(workbench));
    TimedQmp monitor = TimedQmp.connect(qemu.monitor(), qemu.process());
    try {
      String[] all = Arrays.copyOf(capabilities, capabilities.length + 2);
      all[capabilities.length] = "postcopy-ram";
      all[capabilities.length + 1] = "events";
      monitor.enable(all);
      monitor.migrateIncoming("unix:" + socket(workbench));
      Settling.await(qemu.process().pid());
      return monitor;
    } catch (IOException e) {
      monitor.close();
      throw e;
    }
  }

  static MeasuredProcess startC(Workbench workbench, GuestSnapshot snapshot, String... more)
      throws IOException {
    List<String> command =
        new ArrayList<>(
            List.of(
                workbench.cProgram("source"),
                snapshot.file().toString(),
                socket(workbench).toString(),
                C_BATCH_PAGES,
                "preempt"));
    command.addAll(List.of(more));
    MeasuredProcess process = MeasuredProcess.start(command);
    process.awaitLine("ready");
    return process;
  }

  private static Measurements loadByC(
      Workbench workbench, GuestSnapshot snapshot, DestinationQemu qemu, TimedQmp monitor)
      throws IOException {
    try (MeasuredProcess source = startC(workbench, snapshot)) {
      double qemuBefore = ProcessFigures.cpuSeconds(qemu.process().pid());
      long startNanos = System.nanoTime();
      source.writeLine("");
      double seconds = (monitor.awaitStatus("completed") - startNanos) / 1e9;
      double qemuAfter = ProcessFigures.cpuSeconds(qemu.process().pid());
      Measurements own = source.finish();
      return own.and(
          Map.of(
              "gb_per_s",
              own.get("bytes") / 1e9 / seconds,
              "cpu_s",
              own.get("cpu_us") / 1e6,
              "qemu_cpu_s",
              qemuAfter - qemuBefore));
    }
  }

  /**
   * Loads by the daemon.
   *
   * @param observer whose event says that QEMU has everything
   */
  private static Measurements loadByDaemon(
      GuestSnapshot snapshot, DestinationQemu qemu, RunningDaemon daemon, TimedQmp observer)
      throws IOException {
    long pid = daemon.process().pid();
    daemon.qmp().enable("mapped-ram", "postcopy-ram", "events");
    Settling.await(pid);
    ProcessFigures.forgetPeakResident(pid);
    double before = ProcessFigures.cpuSeconds(pid);
    double qemuBefore = ProcessFigures.cpuSeconds(qemu.process().pid());
    long startNanos = System.nanoTime();
    daemon.qmp().migrateIncoming("file:" + snapshot.file());
    double seconds = (observer.awaitStatus("completed") - startNanos) / 1e9;
    Map<String, Double> figures = new HashMap<>();
    figures.put("qemu_cpu_s", ProcessFigures.cpuSeconds(qemu.process().pid()) - qemuBefore);
    figures.put("cpu_s", ProcessFigures.cpuSeconds(pid) - before);
    figures.put("resident_mib", ProcessFigures.peakResidentMib(pid));
    long _ = daemon.qmp().awaitStatus("completed");
    JsonNode ram = daemon.qmp().execute("query-migrate").path("ram");
    figures.put("gb_per_s", ram.path("transferred").asDouble() / 1e9 / seconds);
    figures.put("faults", ram.path("postcopy-requests").asDouble());
    return new Measurements(figures);
  }

  /** The guest reads all of its pages while none comes by itself. */
  private static Measurements ask(Workbench workbench, GuestSnapshot snapshot, Way way)
      throws IOException {
    MachinePreparation preparation = new MachinePreparation(workbench);
    preparation.touch(snapshot);
    preparation.warm(snapshot.file());
    try (DestinationQemu qemu = DestinationQemu.start(workbench, snapshot, workbench.qemu11());
        TimedQmp monitor = waiting(workbench, qemu, "postcopy-preempt", "postcopy-blocktime")) {
      double faults;
      if (way == Way.C) {
        try (MeasuredProcess source = startC(workbench, snapshot, "on-demand")) {
          source.writeLine("");
          long _ = monitor.awaitEvent("RESUME");
          qemu.verify(true);
          source.writeLine("");
          long _ = monitor.awaitStatus("completed");
          faults = source.finish().get("faults");
        }
      } else {
        try (RunningDaemon daemon = streaming(workbench)) {
          daemon.qmp().enable("mapped-ram", "postcopy-ram", "events");
          daemon.qmp().setParameter("max-postcopy-bandwidth", NEXT_TO_NOTHING);
          daemon.qmp().migrateIncoming("file:" + snapshot.file());
          long _ = monitor.awaitEvent("RESUME");
          qemu.verify(true);
          daemon.qmp().setParameter("max-postcopy-bandwidth", 0);
          long _ = monitor.awaitStatus("completed");
          long _ = daemon.qmp().awaitStatus("completed");
          JsonNode ram = daemon.qmp().execute("query-migrate").path("ram");
          faults = ram.path("postcopy-requests").asDouble();
        }
      }
      double latencyMicros =
          monitor.execute("query-migrate").path("postcopy-latency").asDouble() / 1e3;
      return new Measurements(Map.of("latency_us", latencyMicros, "faults", faults));
    }
  }
}
