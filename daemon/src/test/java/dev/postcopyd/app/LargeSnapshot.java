package dev.postcopyd.app;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** Snapshots without a page of data: they take neither disk nor memory, but time. */
final class LargeSnapshot {
  private LargeSnapshot() {}

  /** Writes one with a single block of so many bytes, and the device state of a golden. */
  static Path create(Path file, long ramBytes) throws IOException {
    try (Snapshot golden =
            SnapshotOpener.open(
                NativeFile.open(GoldenSnapshot.of("demo").file(), NativeFile.Mode.READ), 0);
        NativeFile out = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE)) {
      long _ =
          MappedRamWriter.create(
                  out,
                  0,
                  golden.machineState().orElseThrow(),
                  List.of(new MappedRamWriter.Block("pc.ram", ramBytes)))
              .finish();
    }
    return file;
  }
}
