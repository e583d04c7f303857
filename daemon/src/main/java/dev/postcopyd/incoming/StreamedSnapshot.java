package dev.postcopyd.incoming;

import dev.postcopyd.guest.PostcopyDestination;
import dev.postcopyd.posix.FileIdentity;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.Snapshot;
import java.io.IOException;
import java.util.Objects;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * The snapshot that one load sends to a destination: opened and checked, and laid out as soon as it
 * is known on which terms the destination takes it.
 *
 * <p>Used by the thread of the load's steps; {@link #machineState} and {@link #savedRunning} by
 * any. Owns the file, and the machine that is made of it.
 */
final class StreamedSnapshot {
  private final SnapshotLocation location;
  private final StreamContext context;
  private final Optional<LoadTrace.Trace> begun;

  private @Nullable Snapshot snapshot;
  private @Nullable StreamedMachine machine;
  private volatile @Nullable MachineState machineState;
  private volatile boolean savedRunning = true;

  /**
   * A snapshot that is not open yet.
   *
   * @param begun what a daemon that began this load has left behind: the file has to be the same
   */
  StreamedSnapshot(
      SnapshotLocation location, StreamContext context, Optional<LoadTrace.Trace> begun) {
    this.location = location;
    this.context = context;
    this.begun = begun;
  }

  /**
   * Opens it.
   *
   * @param file owned here from now on, also if this fails
   * @throws IOException if no QEMU can run from it, or it is not the one that this load began with
   */
  void check(NativeFile file) throws IOException {
    Snapshot checked = SnapshotOpening.open(file, location.offsetBytes());
    try {
      requireTheSameFile(checked);
      if (location.readsPagesDirectly()) {
        checked.file().setDirectIo(true);
      }
      machineState =
          checked
              .machineState()
              .orElseThrow(() ->
                  new IOException(
                      checked.name()
                          + " is a raw memory file: without device state no QEMU can run from it"));
    } catch (IOException e) {
      // Nothing of it is kept: what comes next, if anything does, looks again.
      checked.close();
      throw e;
    }
    snapshot = checked;
  }

  /** Pages of another snapshot would be the guest's end. */
  private void requireTheSameFile(Snapshot checked) throws IOException {
    FileIdentity now = checked.file().identity();
    if (begun
        .filter(trace ->
            trace.identity().inode() != now.inode()
                || trace.identity().sizeBytes() != now.sizeBytes()
                || trace.identity().mtimeNanos() != now.mtimeNanos())
        .isPresent()) {
      throw new IOException(
          checked.name()
              + " is not the file that the guest was started from ("
              + begun.get().snapshotUri()
              + "), or it was replaced or written to. Put that one back, with its modification time,"
              + " and recover again");
    }
  }

  boolean isOpen() {
    return snapshot != null;
  }

  /** Asks what the destination wants, and prepares to send the machine like that; once. */
  StreamedMachine onTermsOf(PostcopyDestination destination) throws IOException {
    StreamedMachine known = machine;
    if (known != null) {
      return known;
    }
    Snapshot checked = Objects.requireNonNull(snapshot);
    MachineState state = Objects.requireNonNull(machineState);
    StreamedMachine laidOut =
        new StreamedMachine(
            checked, state, destination.prepare(offer(checked, state)), location, context);
    machine = laidOut;
    return laidOut;
  }

  private PostcopyDestination.Offer offer(Snapshot checked, MachineState state) {
    return new PostcopyDestination.Offer(
        state.machineType(),
        checked.blocks().stream()
            .map(block -> new PostcopyDestination.BlockInfo(block.name(), block.usedLengthBytes()))
            .toList(),
        context.preemptWanted());
  }

  /** What {@link #onTermsOf} has made. */
  StreamedMachine machine() {
    return Objects.requireNonNull(machine);
  }

  /** Its devices, once it is open. */
  Optional<MachineState> machineState() {
    return Optional.ofNullable(machineState);
  }

  /** Looks up in which state the guest was saved. */
  Optional<String> savedRunState() {
    Optional<String> saved = SnapshotOpening.savedRunState(Objects.requireNonNull(machineState));
    savedRunning = saved.map("running"::equals).orElse(true);
    return saved;
  }

  /** Whether the guest ran when it was saved; until that has been looked up, it is believed to. */
  boolean savedRunning() {
    return savedRunning;
  }

  /** Notes down in which order its pages were wanted, if any were. */
  void saveWorkingSet(boolean complete) {
    StreamedMachine sent = machine;
    if (sent != null) {
      sent.saveWorkingSet(complete, context);
    }
  }

  void close() {
    StreamedMachine sent = machine;
    machine = null;
    if (sent != null) {
      sent.close();
    }
    Snapshot open = snapshot;
    snapshot = null;
    if (open != null) {
      open.close();
    }
  }
}
