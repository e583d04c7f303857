package dev.postcopyd.app;

import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;

/** Snapshots of which every page says which it is; every third is zero. */
public final class DataSnapshot {
  private static final int PAGE_BYTES = 4096;

  private DataSnapshot() {}

  /** Writes one with a single block that holds what a file holds. */
  public static Path ofRaw(Path file, Path raw) throws IOException {
    try (Snapshot golden =
            SnapshotOpener.open(
                NativeFile.open(GoldenSnapshot.of("demo").file(), NativeFile.Mode.READ), 0);
        NativeFile in = NativeFile.open(raw, NativeFile.Mode.READ);
        NativeFile out = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE);
        MemoryMapping memory = MemoryMapping.ofFile(in, 0, in.sizeBytes())) {
      MappedRamWriter writer =
          MappedRamWriter.create(
              out,
              0,
              golden.machineState().orElseThrow(),
              List.of(new MappedRamWriter.Block("ram", in.sizeBytes())));
      writer.writeNonZeroPages(0, 0, in.sizeBytes() / PAGE_BYTES, memory.address());
      long _ = writer.finish();
    }
    return file;
  }

  /** Writes one with a large block and a small one, and the device state of a golden. */
  public static Path create(Path file, long ramBytes) throws IOException {
    long pages = ramBytes / PAGE_BYTES;
    try (Snapshot golden =
            SnapshotOpener.open(
                NativeFile.open(GoldenSnapshot.of("demo").file(), NativeFile.Mode.READ), 0);
        NativeFile out = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE);
        MemoryMapping memory = MemoryMapping.anonymous(ramBytes)) {
      MappedRamWriter writer =
          MappedRamWriter.create(
              out,
              0,
              golden.machineState().orElseThrow(),
              List.of(
                  new MappedRamWriter.Block("pc.ram", ramBytes),
                  new MappedRamWriter.Block("vga", 37 * PAGE_BYTES)));
      MemorySegment bytes = memory.asSegment();
      for (long page = 0; page < pages; page++) {
        for (int word = 0; word < PAGE_BYTES && page % 3 != 0; word += 512) {
          bytes.set(ValueLayout.JAVA_LONG, page * PAGE_BYTES + word, page + word);
        }
      }
      writer.writeNonZeroPages(0, 0, pages, memory.address());
      writer.writeNonZeroPages(1, 0, 37, memory.address() + 100L * PAGE_BYTES);
      long _ = writer.finish();
    }
    return file;
  }
}
