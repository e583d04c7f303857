package dev.postcopyd.control;

import dev.postcopyd.incoming.RamFigures;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.loader.LoadTimes;
import dev.postcopyd.loader.LoaderState;
import dev.postcopyd.outgoing.Save;
import dev.postcopyd.outgoing.SaveState;
import dev.postcopyd.qmp.schema.MigrationStatus;
import java.util.Optional;
import java.util.OptionalLong;
import org.jspecify.annotations.Nullable;

/** How a load or a save looks in QMP at one moment. Stateless; safe for any thread. */
final class MigrationViews {
  private MigrationViews() {}

  /** QMP's name of a state. */
  static MigrationStatus status(LoaderState state) {
    return status(state.status());
  }

  /** QMP's name of a load's status. */
  static MigrationStatus status(LoadStatus status) {
    return switch (status) {
      case NONE -> MigrationStatus.NONE;
      case SETUP -> MigrationStatus.SETUP;
      case ACTIVE -> MigrationStatus.ACTIVE;
      case POSTCOPY_DEVICE -> MigrationStatus.POSTCOPY_DEVICE;
      case POSTCOPY_ACTIVE -> MigrationStatus.POSTCOPY_ACTIVE;
      case POSTCOPY_PAUSED -> MigrationStatus.POSTCOPY_PAUSED;
      case POSTCOPY_RECOVER_SETUP -> MigrationStatus.POSTCOPY_RECOVER_SETUP;
      case POSTCOPY_RECOVER -> MigrationStatus.POSTCOPY_RECOVER;
      case COMPLETED -> MigrationStatus.COMPLETED;
      case FAILED -> MigrationStatus.FAILED;
      case CANCELLING -> MigrationStatus.CANCELLING;
      case CANCELLED -> MigrationStatus.CANCELLED;
    };
  }

  /** QMP's name of a save's state. */
  static MigrationStatus status(SaveState state) {
    return switch (state) {
      case SaveState.Setup _ -> MigrationStatus.SETUP;
      case SaveState.Active _ -> MigrationStatus.ACTIVE;
      case SaveState.Cancelling _ -> MigrationStatus.CANCELLING;
      case SaveState.Completed _ -> MigrationStatus.COMPLETED;
      case SaveState.Failed _ -> MigrationStatus.FAILED;
      case SaveState.Cancelled _ -> MigrationStatus.CANCELLED;
    };
  }

  /**
   * The latest load.
   *
   * @param times when it was in which state
   */
  static MigrationView of(LoaderState state, @Nullable SnapshotLoad of, LoadTimes times) {
    if (of == null || state.status() == LoadStatus.NONE) {
      return MigrationView.none();
    }
    return new MigrationView(
        status(state),
        errorDesc(state),
        listens(state) ? ListeningAddress.of(of) : Optional.empty(),
        of.ram(),
        times.totalNanos(System.nanoTime()),
        times.setupNanos(),
        OptionalLong.empty(),
        of.blocktime());
  }

  /** Whether a source is waited for; also one that comes back, to another port. */
  private static boolean listens(LoaderState state) {
    return switch (state.status()) {
      case SETUP, POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER -> true;
      default -> false;
    };
  }

  /** Why a load has failed, or is paused. */
  static Optional<String> errorDesc(LoaderState state) {
    return switch (state) {
      case LoaderState.Failed failed -> Optional.of(failed.reason());
      case LoaderState.PostcopyPaused paused -> Optional.of(paused.reason());
      case LoaderState.Live _, LoaderState.Idle _ -> Optional.empty();
    };
  }

  /** A save. */
  static MigrationView of(Save saved) {
    SaveState state = saved.state();
    long end = state instanceof SaveState.Ended ended ? ended.sinceNanos() : System.nanoTime();
    long dataBytes = saved.writtenBytes();
    return new MigrationView(
        status(state),
        state instanceof SaveState.Failed failed ? Optional.of(failed.reason()) : Optional.empty(),
        Optional.empty(),
        Optional.of(
            new RamFigures(
                saved.totalBytes(),
                dataBytes,
                Math.max(0, saved.scannedBytes() - dataBytes),
                Math.max(0, saved.totalBytes() - Math.max(dataBytes, saved.scannedBytes())),
                dataBytes,
                0)),
        OptionalLong.of(end - saved.startedNanos()),
        saved.setupNanos(),
        saved.downtimeNanos(),
        Optional.empty());
  }
}
