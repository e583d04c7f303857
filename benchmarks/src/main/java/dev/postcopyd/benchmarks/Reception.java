package dev.postcopyd.benchmarks;

import dev.postcopyd.qmp.codec.QmpJson;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import tools.jackson.databind.JsonNode;

/**
 * A stock QEMU sends its whole guest, again and again, and somebody takes it: a C program that
 * reads and forgets, postcopyd's decoder that does so, QEMU itself into a plain migration file, and
 * postcopyd into a mapped-ram snapshot. The guest stands still, so that each sends the same.
 *
 * <p>Into nothing the time is QEMU's, from the command to its own {@code completed}; into a file it
 * ends when the file is on the disk: QEMU's is synced after it has said so, postcopyd says it then.
 * The last row is of another kind: a guest that runs and is caught in a background snapshot.
 */
final class Reception implements BenchmarkTable {
  private static final int DATA_MIB = 512;
  private static final int QUICK_DATA_MIB = 128;

  /** Of a guest of 1 GiB. */
  private static final int LIVE_DATA_MIB = 717;

  private static final int LIVE_ROUNDS = 3;

  private static final long PATIENCE_NANOS = TimeUnit.SECONDS.toNanos(5);

  private enum Way {
    DRAIN,
    DISCARD,
    QEMU_FILE,
    SNAPSHOT
  }

  private final Map<Way, Samples> rates = new EnumMap<>(Way.class);

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    for (Way way : Way.values()) {
      rates.put(way, new Samples());
    }
    int dataMib = workbench.quick() ? QUICK_DATA_MIB : DATA_MIB;
    GuestSnapshot guest = GuestSnapshot.of(workbench, dataMib, false);
    Path drain = workbench.directory().resolve("drain.sock");
    Path discard = workbench.directory().resolve("discard.sock");
    try (DestinationQemu qemu = DestinationQemu.start(workbench, guest, null);
        TimedQmp monitor = TimedQmp.connect(qemu.monitor(), qemu.process());
        MeasuredProcess drainer =
            MeasuredProcess.start(List.of(workbench.cProgram("drain"), drain.toString()));
        MeasuredProcess discarder =
            workbench.startClass(DiscardingSink.class, List.of(discard.toString()))) {
      drainer.awaitLine("ready");
      discarder.awaitLine("ready");
      monitor.enable("mapped-ram", "events");
      monitor.migrateIncoming("file:" + guest.file());
      long _ = monitor.awaitStatus("completed");
      monitor.disable("mapped-ram");
      monitor.setParameter("max-bandwidth", 0);
      for (int round = 0; round <= workbench.rounds(); round++) {
        for (Way way : Way.values()) {
          double rate =
              switch (way) {
                case DRAIN -> send(monitor, "unix:" + drain);
                case DISCARD -> send(monitor, "unix:" + discard);
                case QEMU_FILE -> intoFile(workbench, monitor);
                case SNAPSHOT -> intoSnapshot(workbench, monitor);
              };
          if (round > 0) {
            samples(way).add(rate); // the first one warms up
          }
        }
      }
    }
    return table(workbench, dataMib);
  }

  private Samples samples(Way way) {
    return rates.computeIfAbsent(way, of -> new Samples());
  }

  private MarkdownTable table(Workbench workbench, int dataMib) throws IOException {
    MarkdownTable table = new MarkdownTable("figure", "peer", "postcopyd", "ratio", "wanted");
    table.row(
        "%d MiB of data into nothing, unix socket, MB/s".formatted(dataMib),
        samples(Way.DRAIN).toString(0),
        samples(Way.DISCARD).toString(0),
        samples(Way.DISCARD).over(samples(Way.DRAIN)).toString(2),
        "≥ 0.80");
    table.row(
        "the same into a file on the disk (QEMU: file:, fsync), MB/s",
        samples(Way.QEMU_FILE).toString(0),
        samples(Way.SNAPSHOT).toString(0),
        samples(Way.SNAPSHOT).over(samples(Way.QEMU_FILE)).toString(2),
        "≥ 0.80");
    GuestSnapshot busy =
        GuestSnapshot.of(workbench, workbench.quick() ? QUICK_DATA_MIB : LIVE_DATA_MIB, true);
    Live live = Live.measure(workbench, busy);
    table.row(
        "background snapshot of a guest of %d MiB that writes, its downtime by QEMU, ms"
            .formatted(busy.memoryMib()),
        live.into(Way.DRAIN).downtimeMillis.toString(1),
        live.into(Way.SNAPSHOT).downtimeMillis.toString(1),
        live.into(Way.SNAPSHOT)
            .downtimeMillis
            .over(live.into(Way.DRAIN).downtimeMillis)
            .toString(2),
        "≤ 10 ms");
    table.row(
        "its longest silence then (it ticks every 20 ms, and is silent for %s ms without), ms"
            .formatted(live.quietMillis().toString(0)),
        live.into(Way.DRAIN).silenceMillis.toString(0),
        live.into(Way.SNAPSHOT).silenceMillis.toString(0),
        live.into(Way.SNAPSHOT).silenceMillis.over(live.into(Way.DRAIN).silenceMillis).toString(2),
        "≤ 120 ms");
    return table;
  }

  /** Migrates and lets the guest be migrated again; answers the rate by QEMU's own clock. */
  private static double send(TimedQmp monitor, String uri) throws IOException {
    long startNanos = System.nanoTime();
    migrate(monitor, uri);
    double seconds = (monitor.awaitStatus("completed") - startNanos) / 1e9;
    return rate(monitor, seconds);
  }

  private static double rate(TimedQmp monitor, double seconds) throws IOException {
    JsonNode info = monitor.execute("query-migrate");
    runAgain(monitor);
    JsonNode _ = monitor.execute("stop");
    return info.path("ram").path("transferred").asDouble() / 1e6 / seconds;
  }

  /** QEMU says that it is done before its migration's thread has ended, and refuses for so long. */
  private static void runAgain(TimedQmp monitor) throws IOException {
    long deadline = System.nanoTime() + PATIENCE_NANOS;
    while (true) {
      try {
        JsonNode _ = monitor.execute("cont");
        return;
      } catch (IOException e) {
        boolean early = e.getMessage() != null && e.getMessage().contains("not finalized yet");
        if (!early || System.nanoTime() > deadline) {
          throw e;
        }
      }
    }
  }

  static void migrate(TimedQmp monitor, String uri) throws IOException {
    monitor.forgetEvents();
    JsonNode _ = monitor.execute("migrate", QmpJson.object().put("uri", uri));
  }

  private static double intoFile(Workbench workbench, TimedQmp monitor) throws IOException {
    Path file = workbench.directory().resolve("plain.mig");
    Files.deleteIfExists(file);
    long startNanos = System.nanoTime();
    migrate(monitor, "file:" + file);
    long _ = monitor.awaitStatus("completed");
    Measurements _ = MeasuredProcess.run(List.of("sync", file.toString()));
    double seconds = (System.nanoTime() - startNanos) / 1e9;
    double rate = rate(monitor, seconds);
    Files.delete(file);
    return rate;
  }

  private static double intoSnapshot(Workbench workbench, TimedQmp monitor) throws IOException {
    Path file = workbench.directory().resolve("received.mr");
    Files.deleteIfExists(file);
    Path socket = workbench.directory().resolve("receive.sock");
    try (RunningDaemon daemon = RunningDaemon.start(workbench, "file:" + file, List.of())) {
      daemon.qmp().enable("events");
      daemon.qmp().migrateIncoming("unix:" + socket);
      Settling.await(daemon.process().pid());
      long startNanos = System.nanoTime();
      migrate(monitor, "unix:" + socket);
      double seconds = (daemon.qmp().awaitStatus("completed") - startNanos) / 1e9;
      long _ = monitor.awaitStatus("completed");
      double rate = rate(monitor, seconds);
      Files.delete(file);
      return rate;
    }
  }

  /**
   * A guest that runs while it is caught, by a C program that forgets what it reads, and by a
   * snapshot.
   *
   * @param quietMillis the guest's longest silence without any migration
   */
  private record Live(Samples quietMillis, Map<Way, Caught> caught) {
    /**
     * What it noticed.
     *
     * @param silenceMillis its longest silence meanwhile
     */
    record Caught(Samples downtimeMillis, Samples silenceMillis) {
      Caught() {
        this(new Samples(), new Samples());
      }
    }

    Caught into(Way way) {
      return caught.computeIfAbsent(way, of -> new Caught());
    }

    static Live measure(Workbench workbench, GuestSnapshot guest) throws IOException {
      Live live = new Live(new Samples(), new EnumMap<>(Way.class));
      Path file = workbench.directory().resolve("received.mr");
      Path socket = workbench.directory().resolve("receive.sock");
      Path drain = workbench.directory().resolve("drain.sock");
      for (int round = 0; round < Math.min(workbench.rounds(), LIVE_ROUNDS); round++) {
        try (MeasuredProcess drainer =
            MeasuredProcess.start(List.of(workbench.cProgram("drain"), drain.toString()))) {
          drainer.awaitLine("ready");
          live.round(workbench, guest, Way.DRAIN, "unix:" + drain);
        }
        Files.deleteIfExists(file);
        try (RunningDaemon daemon = RunningDaemon.start(workbench, "file:" + file, List.of())) {
          daemon.qmp().enable("events");
          daemon.qmp().migrateIncoming("unix:" + socket);
          Settling.await(daemon.process().pid());
          live.round(workbench, guest, Way.SNAPSHOT, "unix:" + socket);
          long _ = daemon.qmp().awaitStatus("completed");
        }
        Files.delete(file);
      }
      return live;
    }

    /** With a QEMU of its own: 10.0.2 has ended or stood still at the second snapshot in a row. */
    private void round(Workbench workbench, GuestSnapshot guest, Way way, String uri)
        throws IOException {
      try (DestinationQemu qemu = DestinationQemu.start(workbench, guest, null);
          TimedQmp monitor = TimedQmp.connect(qemu.monitor(), qemu.process())) {
        monitor.enable("mapped-ram", "events");
        monitor.migrateIncoming("file:" + guest.file());
        long _ = monitor.awaitStatus("completed");
        long _ = qemu.awaitFirstTick();
        monitor.disable("mapped-ram");
        monitor.enable("background-snapshot");
        monitor.setParameter("max-bandwidth", 0);
        round(qemu, monitor, way, uri);
      }
    }

    private void round(DestinationQemu qemu, TimedQmp monitor, Way way, String uri)
        throws IOException {
      long quietFrom = System.nanoTime();
      qemu.keepWriting(500);
      quietMillis.add(qemu.longestSilenceMillis(quietFrom));
      long busyFrom = System.nanoTime();
      migrate(monitor, uri);
      qemu.keepWriting(500);
      long _ = monitor.awaitStatus("completed");
      Caught caught = into(way);
      caught.silenceMillis.add(qemu.longestSilenceMillis(busyFrom));
      caught.downtimeMillis.add(monitor.execute("query-migrate").path("downtime").asDouble());
    }
  }
}
