package dev.postcopyd.benchmarks;

import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * Pages over sockets: how long a stock QEMU with a channel for urgent pages takes to answer, and
 * how long a guest's thread waits for a page that another postcopyd has, beside one that its own
 * has in a file. Nothing is loaded ahead; QEMU's background is held to 1 MiB a second.
 */
final class NetworkPages implements BenchmarkTable {
  private static final long GUEST_BYTES = 256 * Workbench.MIB;
  private static final int DATA_MIB = 256;
  private static final String NOTHING_AHEAD = ",eager=off,fault-around=off";
  private static final List<String> PROGRAM = List.of("--working-set", "off", "--no-keep-fd");

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table = new MarkdownTable("figure", "peer", "postcopyd", "ratio", "wanted");
    roundTrips(workbench, table);
    faults(workbench, table);
    return table;
  }

  private static void roundTrips(Workbench workbench, MarkdownTable table) throws IOException {
    Samples unix = new Samples();
    Samples tcp = new Samples();
    GuestSnapshot guest = GuestSnapshot.of(workbench, DATA_MIB, false);
    Path socket = workbench.directory().resolve("pages.sock");
    for (int round = 0; round < workbench.rounds(); round++) {
      Files.deleteIfExists(socket);
      unix.add(askQemu(workbench, guest, "unix:" + socket));
      tcp.add(askQemu(workbench, guest, "tcp:127.0.0.1:0"));
    }
    table.row(
        "page request to a stock QEMU with preempt, unix, p50, µs",
        "",
        unix.toString(1),
        "",
        "≤ 35");
    table.row("the same over tcp, loopback, p50, µs", "", tcp.toString(1), "", "≤ 60");
  }

  private static double askQemu(Workbench workbench, GuestSnapshot guest, String uri)
      throws IOException {
    String count = workbench.quick() ? "500" : "3000";
    try (DestinationQemu qemu = DestinationQemu.start(workbench, guest, null);
        TimedQmp monitor = TimedQmp.connect(qemu.monitor(), qemu.process());
        MeasuredProcess asker = workbench.startClass(PageRoundTrips.class, List.of(uri, count))) {
      monitor.enable("mapped-ram", "events");
      monitor.migrateIncoming("file:" + guest.file());
      long _ = monitor.awaitStatus("completed");
      monitor.disable("mapped-ram");
      monitor.enable("postcopy-ram", "postcopy-preempt");
      monitor.setParameter("max-bandwidth", Workbench.MIB);
      monitor.setParameter("max-postcopy-bandwidth", Workbench.MIB);
      asker.awaitLine("ready");
      String port = String.valueOf(asker.nextLine()).replace("port=", "");
      Settling.await(asker.pid());
      Reception.migrate(monitor, uri.startsWith("tcp:") ? "tcp:127.0.0.1:" + port : uri);
      long _ = monitor.awaitStatus("active");
      monitor.execute("migrate-start-postcopy");
      return asker.finish().micros("p50_ns");
    }
  }

  private static void faults(Workbench workbench, MarkdownTable table) throws IOException {
    Samples local = new Samples();
    Samples remote = new Samples();
    Path file = snapshot(workbench);
    for (int round = 0; round < workbench.rounds(); round++) {
      if (round % 2 == 0) {
        local.add(fromFile(workbench, file));
        remote.add(fromSource(workbench, file));
      } else {
        remote.add(fromSource(workbench, file));
        local.add(fromFile(workbench, file));
      }
    }
    table.row(
        "fault of a handed-over guest: from a file, and from another postcopyd over unix, p50, µs",
        local.toString(1),
        remote.toString(1),
        remote.over(local).toString(2),
        "≤ 3");
  }

  /** What the guest expects of its memory, as a mapped-ram snapshot. */
  private static Path snapshot(Workbench workbench) throws IOException {
    Path file = workbench.directory().resolve("pages.mr");
    try (Snapshot machine =
            SnapshotOpener.open(
                NativeFile.open(
                    GuestSnapshot.of(workbench, DATA_MIB, false).file(), NativeFile.Mode.READ),
                0);
        NativeFile raw = NativeFile.open(workbench.warmFile(GUEST_BYTES), NativeFile.Mode.READ);
        MemoryMapping memory = MemoryMapping.ofFile(raw, 0, GUEST_BYTES);
        NativeFile out = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE)) {
      MappedRamWriter writer =
          MappedRamWriter.create(
              out,
              0,
              machine.machineState().orElseThrow(),
              List.of(new MappedRamWriter.Block("ram", GUEST_BYTES)));
      writer.writePages(0, 0, GUEST_BYTES / 4096, memory.address());
      long _ = writer.finish();
    }
    return file;
  }

  private static double fromFile(Workbench workbench, Path file) throws IOException {
    try (HandoverHandler handler =
        HandoverHandler.startProgram(workbench, file, NOTHING_AHEAD, PROGRAM)) {
      return touch(workbench, handler);
    }
  }

  private static double fromSource(Workbench workbench, Path file) throws IOException {
    Path socket = workbench.directory().resolve("pages.sock");
    Files.deleteIfExists(socket);
    // The round before has ended its source in the middle, and a fresh one would go on with that.
    Files.deleteIfExists(workbench.directory().resolve("page-server.load"));
    try (HandoverHandler handler =
            HandoverHandler.awaitingSource(workbench, "unix:" + socket, NOTHING_AHEAD, PROGRAM);
        RunningDaemon source =
            RunningDaemon.start(
                workbench,
                "page-server",
                "stream:unix:" + socket + ",eager=off,preempt=off",
                List.of("--working-set", "off"))) {
      source.qmp().enable("mapped-ram", "postcopy-ram");
      return touch(workbench, handler, () -> source.qmp().migrateIncoming("file:" + file));
    }
  }

  private static double touch(Workbench workbench, HandoverHandler handler) throws IOException {
    return touch(workbench, handler, () -> {});
  }

  /** What makes pages come. */
  @FunctionalInterface
  private interface Begin {
    void run() throws IOException;
  }

  private static double touch(Workbench workbench, HandoverHandler handler, Begin begin)
      throws IOException {
    List<String> options =
        List.of(
            "--prime",
            "--region",
            "size=" + GUEST_BYTES + ",page=4K",
            "--threads",
            "1",
            "--touches",
            workbench.quick() ? "4000" : "20000");
    try (HandedOverGuest guest = HandedOverGuest.start(workbench, handler.socket(), options)) {
      guest.awaitReady();
      begin.run();
      handler.awaitServing();
      Measurements measured = guest.run();
      guest.verifyTouched();
      guest.end();
      return measured.micros("touch-p50-ns");
    }
  }
}
