package dev.postcopyd.snapshot;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.NativeFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Opening a snapshot costs its headers and its bitmap, however large it is: no page is read. */
class MappedRamFileLargeIT {
  private static final long RAM_BYTES = 64L << 30;
  private static final int BITMAP_BYTES = 2 << 20;
  private static final double LIMIT_MILLIS = 50;

  @TempDir private Path folder;

  private record ThreadIo(long bytesRead, long reads) {
    /** What this thread has read by system calls, whatever it read. */
    static ThreadIo now() throws IOException {
      long bytesRead = 0;
      long reads = 0;
      for (String line : Files.readAllLines(Path.of("/proc/thread-self/io"))) {
        if (line.startsWith("rchar: ")) {
          bytesRead = Long.parseLong(line.substring(7));
        } else if (line.startsWith("syscr: ")) {
          reads = Long.parseLong(line.substring(7));
        }
      }
      return new ThreadIo(bytesRead, reads);
    }
  }

  @Test
  void opensA64GibSnapshotWithoutReadingPages() throws IOException {
    Path path = folder.resolve("large.mr");
    long storedPages = create(path);
    List<Double> millis = new ArrayList<>();
    for (int round = 0; round < 7; round++) {
      ThreadIo before = ThreadIo.now();
      long start = System.nanoTime();
      try (Snapshot snapshot =
          SnapshotOpener.open(NativeFile.open(path, NativeFile.Mode.READ), 0)) {
        millis.add((System.nanoTime() - start) / 1e6);
        ThreadIo after = ThreadIo.now();
        SnapshotBlock ram = snapshot.blocks().getFirst();
        assertThat(ram.usedLengthBytes()).isEqualTo(RAM_BYTES);
        assertThat(ram.storedPages()).isEqualTo(storedPages);
        if (round > 0) { // The first one loads classes.
          assertThat(after.bytesRead() - before.bytesRead())
              .isBetween((long) BITMAP_BYTES, BITMAP_BYTES + 65_536L);
          assertThat(after.reads() - before.reads()).isLessThan(24);
        }
      }
    }
    System.out.printf(
        "open of a 64 GiB snapshot: first %.1f ms, best %.1f ms, all %s%n",
        millis.getFirst(), Collections.min(millis), millis);
    assertThat(Collections.min(millis)).isLessThanOrEqualTo(LIMIT_MILLIS);
  }

  /** Two blocks, of which the large one has every other of its pages, at random; all holes. */
  private static long create(Path path) throws IOException {
    MachineState state = SyntheticSnapshot.parse(SyntheticSnapshot.usual().build()).machineState();
    try (NativeFile out = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE)) {
      MappedRamWriter.create(
              out,
              0,
              state,
              List.of(
                  new MappedRamWriter.Block("pc.ram", RAM_BYTES),
                  new MappedRamWriter.Block("pc.bios", 1 << 18)))
          .finish();
      byte[] bitmap = new byte[BITMAP_BYTES];
      new Random(64).nextBytes(bitmap);
      out.writeBytesAt(bitmap, 0x8e);
      long stored = 0;
      for (byte bits : bitmap) {
        stored += Integer.bitCount(bits & 0xff);
      }
      return stored;
    }
  }
}
