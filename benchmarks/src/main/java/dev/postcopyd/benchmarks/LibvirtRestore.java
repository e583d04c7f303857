package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/**
 * A domain of libvirt's comes back from a sparse save image: by stock libvirt and QEMU, by {@code
 * virsh restore} with the emulator postcopyd-qemu, and by {@code postcopyd virsh-restore}. Time is
 * counted from migrate-incoming to RESUME, by libvirt's log in the first two cases, and by what the
 * command says in the third, where libvirt does not see the former. The first of each kind ends
 * with the guest's check of every page.
 */
final class LibvirtRestore implements BenchmarkTable {
  private static final int DATA_MIB = 1024;
  private static final int QUICK_DATA_MIB = 128;

  private enum Way {
    STOCK,
    EMULATOR,
    COMMAND
  }

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    MarkdownTable table =
        new MarkdownTable(
            "migrate-incoming → RESUME, ms",
            "stock",
            "postcopyd-qemu",
            "ratio",
            "virsh-restore",
            "ratio",
            "wanted");
    int dataMib = workbench.quick() ? QUICK_DATA_MIB : DATA_MIB;
    try (LibvirtSession libvirt = LibvirtSession.start(workbench)) {
      Path stock = libvirt.save(dataMib, false);
      Path wrapped = libvirt.save(dataMib, true);
      Process agent = libvirt.beginAgent();
      try {
        for (boolean cold : new boolean[] {false, true}) {
          Map<Way, Samples> samples = measure(workbench, libvirt, stock, wrapped, cold);
          Samples byQemu = of(samples, Way.STOCK);
          table.row(
              dataMib + " MiB of data, " + (cold ? "cold" : "warm"),
              byQemu.toString(0),
              of(samples, Way.EMULATOR).toString(0),
              of(samples, Way.EMULATOR).over(byQemu).toString(2),
              of(samples, Way.COMMAND).toString(0),
              of(samples, Way.COMMAND).over(byQemu).toString(2),
              cold ? "ratios ≤ 0.10" : "ratios ≤ 0.25");
        }
      } finally {
        LibvirtSession.kill(agent);
      }
    }
    return table;
  }

  private static Samples of(Map<Way, Samples> samples, Way way) {
    return samples.computeIfAbsent(way, key -> new Samples());
  }

  private static Map<Way, Samples> measure(
      Workbench workbench, LibvirtSession libvirt, Path stock, Path wrapped, boolean cold)
      throws IOException {
    Map<Way, Samples> samples = new EnumMap<>(Way.class);
    int memoryMib = LibvirtSession.memoryMib(workbench.quick() ? QUICK_DATA_MIB : DATA_MIB);
    for (int round = 0; round < workbench.rounds(); round++) {
      for (int i = 0; i < Way.values().length; i++) {
        Way way = Way.values()[(i + round) % Way.values().length];
        Path image = way == Way.EMULATOR ? wrapped : stock;
        prepare(workbench, "touch", Long.toString(memoryMib * Workbench.MIB * 5 / 4));
        prepare(workbench, cold ? "cold" : "warm", image.toString());
        of(samples, way)
            .add(way == Way.COMMAND ? libvirt.restoreByCommand(image) : libvirt.restore(image));
        if (round == 0) {
          libvirt.check();
        }
        libvirt.end();
      }
    }
    return samples;
  }

  private static void prepare(Workbench workbench, String what, String argument)
      throws IOException {
    Measurements _ = MeasuredProcess.run(List.of(workbench.cProgram("prepare"), what, argument));
  }
}
