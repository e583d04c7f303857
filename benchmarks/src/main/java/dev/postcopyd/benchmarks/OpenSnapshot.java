package dev.postcopyd.benchmarks;

import dev.postcopyd.incoming.FaultPathSelfTest;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Opens a snapshot in a fresh JVM, several times, and prints how long the first time and the last
 * one took, how many bytes the first one read, and how long merely reading so many bytes takes.
 */
final class OpenSnapshot {
  private static final int TIMES = 20;

  private OpenSnapshot() {}

  public static void main(String[] args) throws IOException {
    Path path = Path.of(args[0]);
    FaultPathSelfTest.run();
    long bytesBefore = bytesRead();
    long firstNanos = open(path);
    long bytes = bytesRead() - bytesBefore;
    long lastNanos = 0;
    for (int i = 1; i < TIMES; i++) {
      lastNanos = open(path);
    }
    System.out.println("first_ns=" + firstNanos);
    System.out.println("last_ns=" + lastNanos);
    System.out.println("read_bytes=" + bytes);
    System.out.println("plain_read_ns=" + read(path, bytes));
  }

  private static long open(Path path) throws IOException {
    long startNanos = System.nanoTime();
    try (Snapshot snapshot = SnapshotOpener.open(NativeFile.open(path, NativeFile.Mode.READ), 0)) {
      if (snapshot.blocks().isEmpty()) {
        throw new IOException("no blocks in " + path);
      }
      return System.nanoTime() - startNanos;
    }
  }

  private static long read(Path path, long bytes) throws IOException {
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.READ);
        MemoryMapping memory = MemoryMapping.anonymous((bytes + 4095) & -4096L)) {
      long startNanos = System.nanoTime();
      file.readFullyAt(memory.address(), bytes, 0);
      return System.nanoTime() - startNanos;
    }
  }

  /** Bytes that this process has got from read calls of any kind; see rchar in proc(5). */
  private static long bytesRead() throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/self/io"))) {
      if (line.startsWith("rchar: ")) {
        return Long.parseLong(line.substring("rchar: ".length()));
      }
    }
    throw new IOException("no rchar in /proc/self/io");
  }
}
