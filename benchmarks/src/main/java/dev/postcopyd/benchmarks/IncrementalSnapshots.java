package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * A background snapshot made from the one before, after one page of a hundred was written to,
 * beside a full one of the same guest in the same run: where the file system lets files share their
 * blocks (XFS on a loop device, if there are the tools and the right to it), and in the benchmark's
 * own directory, where what has not changed may have to be copied from file to file. Where blocks
 * are shared, a C program does with the first snapshot what a disk has to do for the second one.
 */
final class IncrementalSnapshots implements BenchmarkTable {
  private static final long SETTLE_MILLIS = 300;

  /** What one directory has come to. */
  private record Figures(
      Samples fullMillis,
      Samples millis,
      Samples diskMillis,
      Samples fullPause,
      Samples pause,
      Samples touchMicros) {
    static Figures none() {
      return new Figures(
          new Samples(), new Samples(), new Samples(), new Samples(), new Samples(), new Samples());
    }
  }

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    long lengthBytes = (workbench.quick() ? 128 : 1024) * Workbench.MIB;
    Path file = workbench.warmFile(lengthBytes);
    MarkdownTable table =
        new MarkdownTable("where", "figure", "full", "incremental", "ratio", "wanted");
    Path image = workbench.directory().resolve("xfs.image");
    Path mounted = workbench.directory().resolve("xfs");
    if (mount(image, mounted, 4 * lengthBytes + 512 * Workbench.MIB)) {
      try {
        rows(workbench, file, lengthBytes, mounted, "XFS on a loop device", "≤ 0.1", table);
      } finally {
        boolean _ = run("umount", mounted.toString());
        Files.deleteIfExists(mounted);
        Files.deleteIfExists(image);
      }
    } else {
      table.row(
          "XFS on a loop device",
          "not measured: no mkfs.xfs, or no right to mount",
          "",
          "",
          "",
          "≤ 0.1");
    }
    rows(workbench, file, lengthBytes, workbench.directory(), "this directory", "", table);
    return table;
  }

  private static boolean mount(Path image, Path directory, long sizeBytes) throws IOException {
    Files.createDirectories(directory);
    return Files.isExecutable(Path.of("/usr/sbin/mkfs.xfs"))
        && run("truncate", "-s", Long.toString(sizeBytes), image.toString())
        && run("/usr/sbin/mkfs.xfs", "-q", "-f", image.toString())
        && run("mount", "-o", "loop", image.toString(), directory.toString());
  }

  private static boolean run(String... command) throws IOException {
    try {
      Measurements _ = MeasuredProcess.run(List.of(command));
      return true;
    } catch (IOException e) {
      return false;
    }
  }

  private static void rows(
      Workbench workbench,
      Path file,
      long lengthBytes,
      Path directory,
      String where,
      String wanted,
      MarkdownTable table)
      throws IOException {
    Figures figures = Figures.none();
    for (int round = 0; round < workbench.rounds(); round++) {
      one(workbench, file, lengthBytes, directory, figures);
    }
    table.row(
        where,
        "snapshot of an idle guest, ms",
        figures.fullMillis.toString(0),
        figures.millis.toString(0),
        figures.millis.over(figures.fullMillis).toString(3),
        wanted);
    if (!figures.diskMillis.isEmpty()) {
      table.row(
          where,
          "what the disk needs of it (a C program), ms",
          "",
          figures.diskMillis.toString(0),
          figures.diskMillis.over(figures.fullMillis).toString(3),
          "");
    }
    table.row(
        where,
        "pause as the guest has it, ms",
        figures.fullPause.toString(1),
        figures.pause.toString(1),
        figures.pause.over(figures.fullPause).toString(2),
        "");
    table.row(
        where, "first write to a page in between, µs", "", figures.touchMicros.toString(1), "", "");
  }

  private static void one(
      Workbench workbench, Path file, long lengthBytes, Path directory, Figures figures)
      throws IOException {
    Path first = directory.resolve("first");
    Path second = directory.resolve("second");
    Files.deleteIfExists(first);
    Files.deleteIfExists(second);
    try (HandoverHandler handler =
            HandoverHandler.startProgram(
                workbench,
                file,
                "",
                List.of(
                    "--working-set", "off", "--no-keep-fd", "--incremental-snapshots", "copy"));
        MeasuredProcess guest = guest(workbench, handler.socket(), lengthBytes)) {
      guest.awaitLine("stamping");
      while (handler.loadedGuests() == 0) {
        Settling.sleep(10);
      }
      Settling.sleep(SETTLE_MILLIS);
      handler.enableSaves();
      figures.fullMillis.add(save(handler, first));
      Settling.sleep(SETTLE_MILLIS);
      figures.fullPause.add(lastPause(tell(guest, "p")));
      long start = System.nanoTime();
      Measurements _ = tell(guest, "w");
      figures.touchMicros.add((System.nanoTime() - start) / 1e3 / (lengthBytes / 409_600.0));
      figures.millis.add(save(handler, second));
      Settling.sleep(SETTLE_MILLIS);
      figures.pause.add(lastPause(tell(guest, "p")));
      double nanos =
          MeasuredProcess.run(
                  List.of(
                      workbench.cProgram("rewrite"),
                      first.toString(),
                      directory.resolve("rewritten").toString()))
              .get("nanos");
      if (nanos > 0) {
        figures.diskMillis.add(nanos / 1e6);
      }
      guest.writeLine("q");
      String _ = guest.nextLine();
      Measurements _ = guest.finish();
    } finally {
      Files.deleteIfExists(first);
      Files.deleteIfExists(second);
    }
  }

  private static double save(HandoverHandler handler, Path out) throws IOException {
    long start = System.nanoTime();
    handler.save(out);
    return (System.nanoTime() - start) / 1e6;
  }

  private static double lastPause(Measurements progress) {
    return progress.millis("last-pause-ns");
  }

  /** Says a line to the guest; answers what comes back. */
  private static Measurements tell(MeasuredProcess guest, String line) throws IOException {
    guest.writeLine(line);
    String answer = guest.nextLine();
    if (answer == null) {
      throw new IOException("the guest has ended");
    }
    return Measurements.parseJson(answer);
  }

  private static MeasuredProcess guest(Workbench workbench, Path socket, long lengthBytes)
      throws IOException {
    return MeasuredProcess.start(
        List.of(
            workbench.program().guest(),
            "--timeout",
            "110",
            "--prime",
            "--no-verify",
            "--region",
            "size=" + lengthBytes,
            "--stamps",
            "--state-bytes",
            "65536",
            "--threads",
            "1",
            "--seconds",
            "100",
            "--pause-us",
            "500000",
            socket.toString()));
  }
}
