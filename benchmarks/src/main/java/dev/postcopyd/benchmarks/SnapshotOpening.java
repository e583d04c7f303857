package dev.postcopyd.benchmarks;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.MappedRamFile;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.Random;
import java.util.zip.GZIPInputStream;

/**
 * Headers and bitmap of a snapshot of a 64 GiB guest: a sparse file with the device state of a real
 * one, of which every other page on average counts as stored.
 */
final class SnapshotOpening implements BenchmarkTable {
  private static final long LENGTH_BYTES = 64 * Workbench.GIB;

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    Path file = workbench.directory().resolve("snapshot-64g.mr");
    write(workbench, file);
    Samples first = new Samples();
    Samples last = new Samples();
    Samples plainRead = new Samples();
    Samples mib = new Samples();
    for (int round = 0; round < workbench.rounds(); round++) {
      try (MeasuredProcess process =
          workbench.startClass(OpenSnapshot.class, List.of(file.toString()))) {
        Measurements measured = process.finish();
        first.add(measured.millis("first_ns"));
        last.add(measured.millis("last_ns"));
        plainRead.add(measured.millis("plain_read_ns"));
        mib.add(measured.get("read_bytes") / Workbench.MIB);
      }
    }
    MarkdownTable table =
        new MarkdownTable(
            "read, MiB", "plain read, ms", "first open, ms", "20th open, ms", "wanted");
    table.row(
        mib.toString(3), plainRead.toString(2), first.toString(1), last.toString(2), "first ≤ 50");
    return table;
  }

  private static void write(Workbench workbench, Path file) throws IOException {
    Path golden = workbench.root().resolve("testdata/qemu-10.0.2/pc/snapshot.mr.gz");
    Path unpacked = workbench.directory().resolve("golden.mr");
    try (InputStream in = new GZIPInputStream(Files.newInputStream(golden))) {
      long _ = Files.copy(in, unpacked, StandardCopyOption.REPLACE_EXISTING);
    }
    try (Snapshot source = open(unpacked);
        NativeFile out = NativeFile.open(file, NativeFile.Mode.WRITE_CREATE_TRUNCATE)) {
      MachineState machineState = source.machineState().orElseThrow();
      MappedRamWriter writer =
          MappedRamWriter.create(
              out, 0, machineState, List.of(new MappedRamWriter.Block("pc.ram", LENGTH_BYTES)));
      long _ = writer.finish();
    }
    long bitmapOffsetBytes;
    try (Snapshot empty = open(file)) {
      bitmapOffsetBytes = ((MappedRamFile) empty).layouts().getFirst().bitmapOffsetBytes();
    }
    byte[] bitmap = new byte[(int) (LENGTH_BYTES / 4096 / 8)];
    new Random(64).nextBytes(bitmap);
    try (NativeFile out = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE)) {
      out.writeBytesAt(bitmap, bitmapOffsetBytes);
    }
  }

  private static Snapshot open(Path file) throws IOException {
    return SnapshotOpener.open(NativeFile.open(file, NativeFile.Mode.READ), 0);
  }
}
