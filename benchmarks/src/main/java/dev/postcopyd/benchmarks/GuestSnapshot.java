package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * A snapshot of the test guest, and the QEMU command line that can load it.
 *
 * @param dataMib what the guest has filled with checkable pages
 * @param memoryMib the guest's RAM
 * @param running whether it was taken while the guest ran: then the guest runs when it is back
 */
record GuestSnapshot(Path file, int dataMib, int memoryMib, boolean running, String qemuCommand) {
  /** Both releases of QEMU that are measured know it. */
  private static final String MACHINE = "pc-i440fx-10.0";

  /** What the guest fills beside the data; see {@code testdata/guest/init.c}. */
  private static final int OTHER_AREAS_MIB = 24;

  /** Taken while the guest ran. */
  static GuestSnapshot of(Workbench workbench, int dataMib) throws IOException {
    return of(workbench, dataMib, true);
  }

  static GuestSnapshot of(Workbench workbench, int dataMib, boolean running) throws IOException {
    // A quarter of the data's size again, for the guest's kernel and free memory.
    int memoryMib = dataMib + dataMib / 4 + 128;
    String name = "guest-" + dataMib + (running ? "m.mr" : "m-paused.mr");
    Path file = workbench.directory().resolve(name);
    Path command = Path.of(file + ".command");
    Path guest = workbench.root().resolve(".lab/guest/initramfs.gz");
    if (!Files.exists(command)
        || !Files.exists(guest)
        || Files.getLastModifiedTime(command).compareTo(Files.getLastModifiedTime(guest)) < 0) {
      List<String> take = new ArrayList<>();
      take.add(workbench.root().resolve("scripts/snapshot").toString());
      take.addAll(List.of("--machine", MACHINE, "--memory", memoryMib + "M"));
      take.addAll(List.of("--data", Integer.toString(dataMib)));
      take.addAll(List.of("--qemu", "-vga std -device virtio-rng-pci"));
      if (running) {
        take.add("--running");
      }
      take.add(file.toString());
      Measurements _ = MeasuredProcess.run(take);
    }
    return new GuestSnapshot(file, dataMib, memoryMib, running, Files.readString(command).strip());
  }

  /** How many pages the guest checks. */
  long checkedPages() {
    return (dataMib + OTHER_AREAS_MIB) * (Workbench.MIB / 4096);
  }

  long memoryBytes() {
    return memoryMib * Workbench.MIB;
  }

  /**
   * The command that starts a QEMU for this snapshot.
   *
   * @param program another QEMU than the one that has taken the snapshot, null for the same
   */
  List<String> qemuCommand(@Nullable Path program, List<String> more) {
    // Quoted for bash, which takes it apart and becomes QEMU.
    String arguments = qemuCommand.substring(qemuCommand.indexOf(' '));
    String own = qemuCommand.substring(0, qemuCommand.indexOf(' '));
    String name = program == null ? own : program.toString();
    List<String> command =
        new ArrayList<>(List.of("bash", "-c", "exec \"$0\"" + arguments + " \"$@\"", name));
    command.addAll(more);
    return command;
  }
}
