package dev.postcopyd.incoming;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.DeviceState;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.util.Optional;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What every load does first: checks the snapshot, and looks for the saved run state. */
final class SnapshotOpening {
  private static final Logger log = LoggerFactory.getLogger(SnapshotOpening.class);

  private SnapshotOpening() {}

  /** Opens the snapshot, which owns the file then; errors name the file. */
  static Snapshot open(NativeFile file, long offsetBytes) throws IOException {
    try {
      return SnapshotOpener.open(file, offsetBytes);
    } catch (StreamFormatException e) {
      throw new IOException(file.name() + ": " + e.getMessage(), e);
    }
  }

  /** The run state when the machine was saved, if the device sections can be cut up. */
  static Optional<String> savedRunState(MachineState machineState) {
    try {
      return DeviceState.of(machineState, 0).runState();
    } catch (IOException e) {
      log.warn(
          "the device sections can't be cut up, so the saved run state is not known: {}",
          e.getMessage());
      return Optional.empty();
    }
  }

  /** It is an array of many MiB that was refused; whatever is small has room still. */
  static String heapTooSmall(String source) {
    return "not enough memory: the page bitmaps of "
        + source
        + " do not fit into the Java heap of "
        + Runtime.getRuntime().maxMemory()
        + " bytes: start postcopyd with a larger one, e.g. POSTCOPYD_JAVA_OPTIONS=-Xmx1g";
  }

  static String message(IOException e) {
    String message = e.getMessage();
    return message == null ? e.toString() : message;
  }
}
