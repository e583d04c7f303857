package dev.postcopyd.snapshot;

import dev.postcopyd.posix.NativeFile;
import java.util.List;
import java.util.Optional;

/**
 * A snapshot file whose structure has been checked in full: RAM blocks, which of their pages are
 * stored, and the device state.
 *
 * <p>Immutable after opening and safe for any thread. Owns its {@link NativeFile}: {@link #close()}
 * closes it. Page contents are not read by this type: {@link SnapshotBlock} tells where they lie.
 */
public interface Snapshot extends AutoCloseable {
  /** How messages name the file: its path, or {@code fd:NAME}. */
  String name();

  /** What was recognised, as inspect shows it: e.g. {@code mapped-ram}. */
  SnapshotFormat format();

  /** The file that holds the pages; read by position only. */
  NativeFile file();

  /** The blocks, in the order of the file. */
  List<SnapshotBlock> blocks();

  /**
   * The migration stream around the pages: machine type, commands, device state. Empty for a raw
   * memory file, which has none.
   */
  Optional<MachineState> machineState();

  @Override
  void close();
}
