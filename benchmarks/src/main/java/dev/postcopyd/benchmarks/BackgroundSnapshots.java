package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Background snapshots of a VMM's guest, beside the least that does it in C with one thread, in the
 * same run: how long the guest stands still, how long a write waits for its page, how much slower a
 * thread writes meanwhile, and how long the snapshot of an idle guest takes, beside dd.
 */
final class BackgroundSnapshots implements BenchmarkTable {
  private static final long SETTLE_MILLIS = 300;

  /** As much as a small VMM has to say of its devices. */
  private static final String STATE_BYTES = "65536";

  /** What a pause may take beside protecting. */
  private static final double PAUSE_EXTRA_MILLIS = 3;

  private static final String SMALL_PAGES = "";
  private static final String HUGE_PAGES = ",page=2M";
  private static final long HUGE_PAGE_BYTES = 2 * Workbench.MIB;

  /** What one peer has measured. */
  private static final class Figures {
    final Samples pause = new Samples();
    final Samples protect = new Samples();
    final Samples waitMicros = new Samples();
    final Samples slowdown = new Samples();
    final Samples busyMillis = new Samples();
    final Samples idleMillis = new Samples();
  }

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    long lengthBytes = (workbench.quick() ? 128 : 1024) * Workbench.MIB;
    Path file = workbench.warmFile(lengthBytes);
    Path out = workbench.directory().resolve("snapshot");
    Figures ofC = new Figures();
    Figures ofProduct = new Figures();
    Samples dd = new Samples();
    for (int round = 0; round < workbench.rounds(); round++) {
      for (Peer peer : Peer.inOrderOf(round)) {
        Figures figures = peer == Peer.C ? ofC : ofProduct;
        one(workbench, peer, file, lengthBytes, SMALL_PAGES, out, true, figures);
        one(workbench, peer, file, lengthBytes, SMALL_PAGES, out, false, figures);
      }
      Files.deleteIfExists(out);
      long start = System.nanoTime();
      Measurements _ =
          MeasuredProcess.run(
              List.of("dd", "if=" + file, "of=" + out, "bs=1M", "conv=fsync", "status=none"));
      dd.add((System.nanoTime() - start) / 1e6);
      Files.deleteIfExists(out);
    }
    MarkdownTable table =
        new MarkdownTable("figure", "C, one thread", "postcopyd", "ratio", "wanted");
    table.row("the bare UFFDIO_WRITEPROTECT, ms", ofC.protect.toString(1), "", "", "");
    table.row(
        "pause as the guest has it, ms",
        ofC.pause.toString(1),
        ofProduct.pause.toString(1),
        ofProduct.pause.minus(PAUSE_EXTRA_MILLIS).over(ofC.protect).toString(2)
            + " of the bare calls, less 3 ms",
        "≤ 1.2");
    row(table, "wait for a write, p50, µs", ofC.waitMicros, ofProduct.waitMicros, 1, "≤ 1.3");
    row(table, "slowdown of a writer, ×", ofC.slowdown, ofProduct.slowdown, 2, "≤ 1.5");
    row(table, "snapshot of a busy guest, ms", ofC.busyMillis, ofProduct.busyMillis, 0, "");
    row(table, "snapshot of an idle guest, ms", ofC.idleMillis, ofProduct.idleMillis, 0, "");
    table.row(
        "the same bytes by dd, fsync, ms",
        dd.toString(0),
        "",
        dd.over(ofProduct.idleMillis).toString(2) + " of dd's throughput",
        "≥ 0.8");
    hugePages(workbench, file, lengthBytes, out, table);
    return table;
  }

  private static void hugePages(
      Workbench workbench, Path file, long lengthBytes, Path out, MarkdownTable table)
      throws IOException {
    Figures ofC = new Figures();
    Figures ofProduct = new Figures();
    String name = "pause with pages of 2 MiB, ms per GiB";
    try (HugePageReserve reserve = HugePageReserve.of(lengthBytes / HUGE_PAGE_BYTES)) {
      if (!reserve.isEnough()) {
        table.row(name, "not measured: no huge pages to be had", "", "", "≤ 2");
        return;
      }
      for (int round = 0; round < workbench.rounds(); round++) {
        for (Peer peer : Peer.inOrderOf(round)) {
          Figures figures = peer == Peer.C ? ofC : ofProduct;
          one(workbench, peer, file, lengthBytes, HUGE_PAGES, out, true, figures);
        }
      }
    }
    double gibibytes = lengthBytes / (1024.0 * Workbench.MIB);
    table.row(
        name,
        ofC.pause.over(gibibytes).toString(1)
            + ", the bare calls "
            + ofC.protect.over(gibibytes).toString(1),
        ofProduct.pause.over(gibibytes).toString(1),
        ofProduct.pause.over(ofC.pause).toString(2),
        "≤ 2");
  }

  private static void row(
      MarkdownTable table,
      String name,
      Samples ofC,
      Samples ofProduct,
      int decimals,
      String wanted) {
    table.row(
        name,
        ofC.toString(decimals),
        ofProduct.toString(decimals),
        ofProduct.over(ofC).toString(2),
        wanted);
  }

  /** Takes snapshots. */
  private interface Saver extends AutoCloseable {
    Path socket();

    void awaitLoaded() throws IOException;

    /** Returns when it is on the disk; answers how long the bare protection took, or NaN. */
    double save(Path out) throws IOException;

    @Override
    void close() throws IOException;
  }

  private record SaverInC(MeasuredProcess process, Path socket) implements Saver {
    static SaverInC start(Workbench workbench, Path file) throws IOException {
      Path socket = workbench.directory().resolve("handover");
      Files.deleteIfExists(socket);
      MeasuredProcess process =
          MeasuredProcess.start(
              List.of(workbench.cProgram("saver"), socket.toString(), file.toString()));
      process.awaitLine("ready");
      return new SaverInC(process, socket);
    }

    @Override
    public void awaitLoaded() throws IOException {
      process.awaitLine("loaded");
    }

    @Override
    public double save(Path out) throws IOException {
      process.writeLine(out.toString());
      String line = process.nextLine();
      if (line == null) {
        throw new IOException("the saver in C has ended");
      }
      return Measurements.parseJson(line).millis("protect-ns");
    }

    @Override
    public void close() throws IOException {
      process.close();
    }
  }

  private record Product(HandoverHandler handler) implements Saver {
    static Product start(Workbench workbench, Path file) throws IOException {
      return new Product(
          HandoverHandler.startProgram(
              workbench, file, "", List.of("--working-set", "off", "--no-keep-fd")));
    }

    @Override
    public Path socket() {
      return handler.socket();
    }

    @Override
    public void awaitLoaded() throws IOException {
      while (handler.loadedGuests() == 0) {
        Settling.sleep(10);
      }
      // Its state is, right after that.
      Settling.sleep(SETTLE_MILLIS);
      handler.enableSaves();
    }

    @Override
    public double save(Path out) throws IOException {
      handler.save(out);
      return Double.NaN;
    }

    @Override
    public void close() throws IOException {
      handler.close();
    }
  }

  private static void one(
      Workbench workbench,
      Peer peer,
      Path file,
      long lengthBytes,
      String pages,
      Path out,
      boolean busy,
      Figures figures)
      throws IOException {
    try (Saver saver =
            peer == Peer.C ? SaverInC.start(workbench, file) : Product.start(workbench, file);
        MeasuredProcess guest = guest(workbench, saver.socket(), lengthBytes, pages, busy)) {
      guest.awaitLine("stamping");
      saver.awaitLoaded();
      Settling.sleep(SETTLE_MILLIS);
      double[] calmFrom = progress(guest);
      Settling.sleep(1_000);
      double[] calmTo = progress(guest);
      Files.deleteIfExists(out);
      long start = System.nanoTime();
      double[] from = progress(guest);
      double protectMillis = saver.save(out);
      double[] to = progress(guest);
      double millis = (System.nanoTime() - start) / 1e6;
      guest.writeLine("q");
      String last = guest.nextLine();
      Measurements report = Measurements.parseJson(last == null ? "" : last);
      Measurements _ = guest.finish();
      (busy ? figures.busyMillis : figures.idleMillis).add(millis);
      if (!Double.isNaN(protectMillis)) {
        figures.protect.add(protectMillis);
      }
      figures.pause.add(report.millis("longest-pause-ns"));
      if (busy) {
        figures.waitMicros.add(report.micros("wait-p50-ns"));
        figures.slowdown.add(rate(calmFrom, calmTo) / Math.max(1e-9, rate(from, to)));
      }
      Files.deleteIfExists(out);
    }
  }

  private static double rate(double[] from, double[] to) {
    return (to[0] - from[0]) / (to[1] - from[1]);
  }

  private static MeasuredProcess guest(
      Workbench workbench, Path socket, long lengthBytes, String pages, boolean busy)
      throws IOException {
    List<String> command =
        new ArrayList<>(
            List.of(
                workbench.program().guest(),
                "--timeout",
                "110",
                "--prime",
                "--no-verify",
                "--region",
                "size=" + lengthBytes + pages,
                "--stamps",
                "--state-bytes",
                STATE_BYTES,
                "--threads",
                "1",
                "--seconds",
                "100"));
    if (!busy) {
      command.addAll(List.of("--pause-us", "500000"));
    }
    command.add(socket.toString());
    return MeasuredProcess.start(command);
  }

  /** Writes so far, and when that was, in nanoseconds of the guest's. */
  private static double[] progress(MeasuredProcess guest) throws IOException {
    guest.writeLine("p");
    String line = guest.nextLine();
    if (line == null) {
      throw new IOException("the guest has ended");
    }
    Measurements measured = Measurements.parseJson(line);
    return new double[] {measured.get("writes"), measured.get("at-ns")};
  }
}
