package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * A snapshot of the test guest, taken while it ran, and the QEMU command line that can load it.
 *
 * @param dataMib what the guest has filled with checkable pages
 * @param memoryMib the guest's RAM
 */
record GuestSnapshot(Path file, int dataMib, int memoryMib, String qemuCommand) {
  /** Both releases of QEMU that are measured know it. */
  private static final String MACHINE = "pc-i440fx-10.0";

  /** What the guest fills beside the data; see {@code testdata/guest/init.c}. */
  private static final int OTHER_AREAS_MIB = 24;

  /** A quarter of the data's size again, for the guest's kernel and free memory. */
  static GuestSnapshot of(Workbench workbench, int dataMib) throws IOException {
    int memoryMib = dataMib + dataMib / 4 + 128;
    Path file = workbench.directory().resolve("guest-" + dataMib + "m.mr");
    Path command = Path.of(file + ".command");
    Path guest = workbench.root().resolve(".lab/guest/initramfs.gz");
    if (!Files.exists(command)
        || !Files.exists(guest)
        || Files.getLastModifiedTime(command).compareTo(Files.getLastModifiedTime(guest)) < 0) {
      Measurements _ =
          MeasuredProcess.run(
              List.of(
                  workbench.root().resolve("scripts/snapshot").toString(),
                  "--machine",
                  MACHINE,
                  "--memory",
                  memoryMib + "M",
                  "--data",
                  Integer.toString(dataMib),
                  "--running",
                  "--qemu",
                  "-vga std -device virtio-rng-pci",
                  file.toString()));
    }
    return new GuestSnapshot(file, dataMib, memoryMib, Files.readString(command).strip());
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
