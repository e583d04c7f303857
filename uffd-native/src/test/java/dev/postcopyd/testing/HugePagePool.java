package dev.postcopyd.testing;

import dev.postcopyd.posix.HugePages;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * More 2 MiB huge pages in the kernel's pool for as long as a test runs. The pool is the whole
 * machine's, so pages are added to it and taken away, and never is its size set.
 */
public final class HugePagePool implements AutoCloseable {
  private static final Path SIZE =
      Path.of("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");

  private final int pages;

  private HugePagePool(int pages) {
    this.pages = pages;
  }

  /** Adds pages to the pool. */
  public static HugePagePool reserve(int pages) throws IOException {
    Requirement.root();
    Requirement.that(Files.exists(SIZE), "2 MiB huge pages");
    long before = HugePages.available(HugePages.SHIFT_2M);
    grow(pages);
    HugePagePool pool = new HugePagePool(pages);
    if (HugePages.available(HugePages.SHIFT_2M) < before + pages) {
      pool.close();
      Requirement.that(false, pages + " free huge pages of 2 MiB");
    }
    return pool;
  }

  public long pageSizeBytes() {
    return 2L << 20;
  }

  @Override
  public void close() throws IOException {
    grow(-pages);
  }

  private static void grow(int pages) throws IOException {
    Files.writeString(SIZE, Long.toString(HugePages.total(HugePages.SHIFT_2M) + pages));
  }
}
