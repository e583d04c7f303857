package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * How long the threads of a guest wait for a page when its VMM has handed its userfaultfd over, and
 * how many pages a second they get. Nothing is loaded ahead.
 *
 * <p>The handler's thread is on CPU 0 for both peers; the guest's threads are on CPU 0, or on 0 and
 * 1 in turn where there are several.
 */
final class HandoverFaults implements BenchmarkTable {
  private static final long HUGE_PAGE_BYTES = 2 * Workbench.MIB;
  private static final String NOTHING_AHEAD = ",eager=off,fault-around=off";

  private record Scene(
      String name, long lengthBytes, String page, int threads, String pins, long touches) {

    List<String> guestOptions() {
      List<String> options =
          new ArrayList<>(
              List.of("--prime", "--region", "size=" + lengthBytes + ",page=" + page, "--threads"));
      options.addAll(List.of(Integer.toString(threads), "--touches", Long.toString(touches)));
      if (!pins.isEmpty()) {
        options.addAll(List.of("--pin", pins));
      }
      return options;
    }

    int faultCpu() {
      return pins.isEmpty() ? Scenario.ANY_CPU : 0;
    }
  }

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table =
        new MarkdownTable("guest", "figure", "C, µs", "postcopyd, µs", "ratio", "wanted");
    long lengthBytes = 256 * Workbench.MIB;
    long touches = workbench.quick() ? 4_000 : 24_000;
    for (int threads : new int[] {1, 2, 4}) {
      String pins = threads == 1 ? "0" : "0,1";
      String name = "4 KiB, " + (threads == 1 ? "1 thread" : threads + " threads");
      rows(workbench, table, new Scene(name, lengthBytes, "4K", threads, pins, touches / threads));
    }
    rows(
        workbench,
        table,
        new Scene("4 KiB, 4 threads, anywhere", lengthBytes, "4K", 4, "", touches / 4));
    huge(workbench, table);
    return table;
  }

  private static void huge(Workbench workbench, MarkdownTable table) throws IOException {
    long lengthBytes = 512 * Workbench.MIB;
    // What the guest takes from the host before counts too.
    try (HugePageReserve reserve = HugePageReserve.of(lengthBytes / HUGE_PAGE_BYTES)) {
      String name = "2 MiB, 1 thread";
      if (reserve.isEnough()) {
        rows(
            workbench,
            table,
            new Scene(name, lengthBytes, "2M", 1, "0", lengthBytes / HUGE_PAGE_BYTES));
      } else {
        table.row(name, "p50", "not measured: no huge pages to be had", "", "", "≤ 1.05");
      }
    }
  }

  private static void rows(Workbench workbench, MarkdownTable table, Scene scene)
      throws IOException {
    if (!workbench.wants(scene.name)) {
      return;
    }
    Path file = workbench.warmFile(scene.lengthBytes);
    PeerSamples samples = new PeerSamples(new ArrayList<>(), new ArrayList<>());
    for (int round = 0; round < workbench.rounds(); round++) {
      for (Peer peer : Peer.inOrderOf(round)) {
        samples.add(peer, measure(workbench, peer, scene, file));
      }
    }
    boolean pinned = !scene.pins.isEmpty();
    boolean huge = scene.page.equals("2M");
    samples.row(table, scene.name, "p50", pinned ? "≤ 1.05" : "", m -> m.micros("touch-p50-ns"));
    samples.row(
        table, scene.name, "p99", pinned && !huge ? "≤ 1.15" : "", m -> m.micros("touch-p99-ns"));
    samples.row(
        table,
        scene.name,
        "faults per second",
        pinned && !huge ? "≥ 0.9" : "",
        m -> m.get("faults-per-second"));
    samples.row(table, scene.name, "mean of first 1,000", "", m -> m.micros("first-1000-mean-ns"));
  }

  private static Measurements measure(Workbench workbench, Peer peer, Scene scene, Path file)
      throws IOException {
    try (HandoverHandler handler =
            HandoverHandler.start(workbench, peer, file, scene.faultCpu(), NOTHING_AHEAD);
        HandedOverGuest guest =
            HandedOverGuest.start(workbench, handler.socket(), scene.guestOptions())) {
      guest.awaitReady();
      handler.awaitServing();
      handler.pinFaultThreads(scene.faultCpu());
      Measurements measured = guest.run();
      guest.verifyTouched();
      guest.end();
      return measured;
    }
  }
}
