package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.function.ToDoubleFunction;

/**
 * A domain of libvirt's comes back from a sparse save image: by stock libvirt and QEMU, by {@code
 * virsh restore} with the emulator postcopyd-qemu, and by {@code postcopyd virsh-restore}. Times
 * are those of libvirt's log; where libvirt does not send migrate-incoming itself, QEMU's event of
 * it counts, which comes a millisecond or two later. The first of each kind ends with the guest's
 * check of every page.
 */
final class LibvirtRestore implements BenchmarkTable {
  private static final int DATA_MIB = 1024;
  private static final int QUICK_DATA_MIB = 128;

  /** What a lazy restore may take more than stock takes to come to its load. */
  private static final int MORE_MILLIS = 80;

  private enum Way {
    STOCK,
    EMULATOR,
    COMMAND
  }

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table =
        new MarkdownTable(
            "ms", "stock", "postcopyd-qemu", "ratio", "virsh-restore", "ratio", "wanted");
    int dataMib = workbench.quick() ? QUICK_DATA_MIB : DATA_MIB;
    try (LibvirtSession libvirt = LibvirtSession.start(workbench)) {
      Path stock = libvirt.save(dataMib, false);
      Path wrapped = libvirt.save(dataMib, true);
      Process agent = libvirt.beginAgent();
      try {
        for (boolean cold : new boolean[] {false, true}) {
          Map<Way, List<LibvirtSession.Restored>> restored =
              measure(workbench, libvirt, stock, wrapped, cold);
          String what = ", %d MiB, %s".formatted(dataMib, cold ? "cold" : "warm");
          Samples start = samples(restored, Way.STOCK, LibvirtSession.Restored::execToIncoming);
          row(
              table,
              "migrate-incoming → RESUME" + what,
              restored,
              LibvirtSession.Restored::incomingToResume,
              cold ? "ratios ≤ 0.10" : "ratios ≤ 0.25");
          row(
              table,
              "exec → migrate-incoming" + what,
              restored,
              LibvirtSession.Restored::execToIncoming,
              "");
          row(
              table,
              "exec → RESUME" + what,
              restored,
              LibvirtSession.Restored::execToResume,
              "≤ %.0f: stock's exec → migrate-incoming and %d"
                  .formatted(start.median() + MORE_MILLIS, MORE_MILLIS));
        }
      } finally {
        LibvirtSession.kill(agent);
      }
    }
    return table;
  }

  private static void row(
      MarkdownTable table,
      String what,
      Map<Way, List<LibvirtSession.Restored>> restored,
      ToDoubleFunction<LibvirtSession.Restored> figure,
      String wanted) {
    Samples stock = samples(restored, Way.STOCK, figure);
    Samples emulator = samples(restored, Way.EMULATOR, figure);
    Samples command = samples(restored, Way.COMMAND, figure);
    table.row(
        what,
        stock.toString(0),
        emulator.toString(0),
        emulator.over(stock).toString(2),
        command.toString(0),
        command.over(stock).toString(2),
        wanted);
  }

  private static Samples samples(
      Map<Way, List<LibvirtSession.Restored>> restored,
      Way way,
      ToDoubleFunction<LibvirtSession.Restored> figure) {
    Samples samples = new Samples();
    restored.getOrDefault(way, List.of()).forEach(one -> samples.add(figure.applyAsDouble(one)));
    return samples;
  }

  private static Map<Way, List<LibvirtSession.Restored>> measure(
      Workbench workbench, LibvirtSession libvirt, Path stock, Path wrapped, boolean cold)
      throws IOException {
    Map<Way, List<LibvirtSession.Restored>> restored = new EnumMap<>(Way.class);
    int memoryMib = LibvirtSession.memoryMib(workbench.quick() ? QUICK_DATA_MIB : DATA_MIB);
    for (int round = 0; round < workbench.rounds(); round++) {
      for (int i = 0; i < Way.values().length; i++) {
        Way way = Way.values()[(i + round) % Way.values().length];
        Path image = way == Way.EMULATOR ? wrapped : stock;
        prepare(workbench, "touch", Long.toString(memoryMib * Workbench.MIB * 5 / 4));
        prepare(workbench, cold ? "cold" : "warm", image.toString());
        restored
            .computeIfAbsent(way, _ -> new ArrayList<>())
            .add(way == Way.COMMAND ? libvirt.restoreByCommand(image) : libvirt.restore(image));
        if (round == 0) {
          libvirt.check();
        }
        libvirt.end();
      }
    }
    return restored;
  }

  private static void prepare(Workbench workbench, String what, String argument)
      throws IOException {
    Measurements _ = MeasuredProcess.run(List.of(workbench.cProgram("prepare"), what, argument));
  }
}
