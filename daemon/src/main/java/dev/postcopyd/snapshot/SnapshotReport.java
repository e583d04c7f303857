package dev.postcopyd.snapshot;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;

/**
 * What there is to say of a snapshot, for people and scripts: plain values only. Immutable. Its
 * component names are the keys of {@code postcopyd inspect --json} (in kebab case), and so part of
 * the program's interface.
 *
 * @param file how the snapshot's file is called
 * @param format see {@link SnapshotFormat#label()}
 * @param sizeBytes of the file
 * @param blocks in the order of the file
 * @param machine absent for raw memory, which has none
 * @param libvirt present for a libvirt save image only
 */
public record SnapshotReport(
    String file,
    String format,
    long sizeBytes,
    List<Block> blocks,
    Optional<Machine> machine,
    Optional<Libvirt> libvirt) {

  public SnapshotReport {
    blocks = List.copyOf(blocks);
  }

  /**
   * One RAM block.
   *
   * @param bitmapOffsetBytes absent for raw memory, which has no bitmap
   */
  public record Block(
      String name,
      long lengthBytes,
      long pages,
      long storedPages,
      OptionalLong bitmapOffsetBytes,
      long pagesOffsetBytes) {}

  /**
   * The stream around the pages.
   *
   * @param streamOffsetBytes where in the file it begins
   * @param runState what the guest did when it was saved, e.g. {@code paused}
   * @param vmdescriptionLengthBytes absent with {@code suppress-vmdesc=on}
   * @param made how, if it says so: a background snapshot of a guest whose writes are tracked
   */
  public record Machine(
      String type,
      long streamOffsetBytes,
      Optional<String> runState,
      long deviceStateOffsetBytes,
      List<DeviceSection> deviceSections,
      OptionalInt vmdescriptionLengthBytes,
      Optional<SnapshotLineage> made) {
    public Machine {
      deviceSections = List.copyOf(deviceSections);
    }

    /** Length of all device sections together. */
    public long deviceStateLengthBytes() {
      return deviceSections.stream().mapToLong(DeviceSection::lengthBytes).sum();
    }
  }

  /** What libvirt's header says. */
  public record Libvirt(boolean wasRunning) {}

  /**
   * Looks a snapshot over, device sections included.
   *
   * @throws dev.postcopyd.stream.StreamFormatException if the device sections cannot be told apart
   */
  public static SnapshotReport of(Snapshot snapshot) throws IOException {
    return switch (snapshot) {
      case MappedRamFile mappedRam -> of(snapshot, mappedRam, Optional.empty());
      case LibvirtSaveImage image ->
          of(snapshot, image.mappedRam(), Optional.of(new Libvirt(image.wasRunning())));
      default ->
          new SnapshotReport(
              snapshot.name(),
              snapshot.format().label(),
              snapshot.file().sizeBytes(),
              snapshot.blocks().stream().map(block -> block(block, OptionalLong.empty())).toList(),
              Optional.empty(),
              Optional.empty());
    };
  }

  /** Bytes of RAM in all blocks. */
  public long ramBytes() {
    return blocks.stream().mapToLong(Block::lengthBytes).sum();
  }

  /** Pages in all blocks. */
  public long pages() {
    return blocks.stream().mapToLong(Block::pages).sum();
  }

  /** Stored pages in all blocks. */
  public long storedPages() {
    return blocks.stream().mapToLong(Block::storedPages).sum();
  }

  private static SnapshotReport of(
      Snapshot snapshot, MappedRamFile mappedRam, Optional<Libvirt> libvirt) throws IOException {
    List<Block> blocks = new ArrayList<>();
    for (int i = 0; i < mappedRam.blocks().size(); i++) {
      blocks.add(
          block(
              mappedRam.blocks().get(i),
              OptionalLong.of(mappedRam.layouts().get(i).bitmapOffsetBytes())));
    }
    MachineState state = mappedRam.machineState().orElseThrow();
    DeviceState devices = DeviceState.of(state, mappedRam.deviceSectionsOffsetBytes());
    Machine machine =
        new Machine(
            state.machineType().orElse(""),
            mappedRam.streamOffsetBytes(),
            devices.runState(),
            mappedRam.deviceSectionsOffsetBytes(),
            devices.sections(),
            state
                .vmDescriptionJson()
                .map(json -> OptionalInt.of(json.length))
                .orElse(OptionalInt.empty()),
            SnapshotLineage.of(state));
    return new SnapshotReport(
        snapshot.name(),
        snapshot.format().label(),
        snapshot.file().sizeBytes(),
        blocks,
        Optional.of(machine),
        libvirt);
  }

  private static Block block(SnapshotBlock block, OptionalLong bitmapOffsetBytes) {
    return new Block(
        block.name(),
        block.usedLengthBytes(),
        block.pageCount(),
        block.storedPages(),
        bitmapOffsetBytes,
        block.pagesOffsetBytes());
  }
}
