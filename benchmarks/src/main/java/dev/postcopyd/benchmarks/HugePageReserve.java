package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Huge pages of 2 MiB, reserved for one benchmark and given back after it. Needs root. */
final class HugePageReserve implements AutoCloseable {
  private static final Path POOL = Path.of("/sys/kernel/mm/hugepages/hugepages-2048kB");
  private static final Path TOTAL = POOL.resolve("nr_hugepages");
  private static final Path FREE = POOL.resolve("free_hugepages");

  private final long totalBefore;
  private final boolean changed;
  private final boolean enough;

  private HugePageReserve(long totalBefore, boolean changed, boolean enough) {
    this.totalBefore = totalBefore;
    this.changed = changed;
    this.enough = enough;
  }

  static HugePageReserve of(long pages) throws IOException {
    if (!Files.isReadable(FREE)) {
      return new HugePageReserve(0, false, false);
    }
    long total = read(TOTAL);
    long missing = pages - read(FREE);
    if (missing <= 0) {
      return new HugePageReserve(total, false, true);
    }
    if (!Files.isWritable(TOTAL)) {
      return new HugePageReserve(total, false, false);
    }
    Files.writeString(TOTAL, Long.toString(total + missing));
    return new HugePageReserve(total, true, read(FREE) >= pages);
  }

  private static long read(Path file) throws IOException {
    return Long.parseLong(Files.readString(file).strip());
  }

  boolean isEnough() {
    return enough;
  }

  @Override
  public void close() throws IOException {
    if (changed) {
      Files.writeString(TOTAL, Long.toString(totalBefore));
    }
  }
}
