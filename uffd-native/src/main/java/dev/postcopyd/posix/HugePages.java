package dev.postcopyd.posix;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * What the kernel says about its huge pages under {@code /sys/kernel/mm/hugepages}. Reads files on
 * every call; safe for any thread.
 */
public final class HugePages {
  /** The shift of 2 MiB pages, which x86-64 and aarch64 have in common. */
  public static final int SHIFT_2M = 21;

  private HugePages() {}

  /** Whether this kernel has huge pages of that size at all. */
  public static boolean supported(int pageShift) {
    return Files.isDirectory(directory(pageShift));
  }

  /**
   * How many huge pages could be taken now: free ones less those promised to existing mappings.
   *
   * @throws IOException if this kernel has no huge pages of that size
   */
  public static long available(int pageShift) throws IOException {
    return read(pageShift, "free_hugepages") - read(pageShift, "resv_hugepages");
  }

  /** How many huge pages the pool holds, used and free. */
  public static long total(int pageShift) throws IOException {
    return read(pageShift, "nr_hugepages");
  }

  /** Says why so many bytes of huge pages were not to be had, and how to reserve them. */
  static String shortage(int pageShift, long lengthBytes) {
    String size = (1L << (pageShift - 10)) + " KiB";
    Path directory = directory(pageShift);
    try {
      return "%d huge pages of %s are needed and %d of %d are free: reserve more, e.g. echo N > %s"
          .formatted(
              lengthBytes >>> pageShift,
              size,
              available(pageShift),
              total(pageShift),
              directory.resolve("nr_hugepages"));
    } catch (IOException | NumberFormatException e) {
      return "this kernel has no huge pages of " + size + " (no " + directory + ")";
    }
  }

  static void checkShift(int pageShift) {
    // From 64 KiB (aarch64) to 16 GiB: what MAP_HUGE_SHIFT's six bits are used for.
    if (pageShift < 16 || pageShift > 34) {
      throw new IllegalArgumentException("no such huge page size: 2^" + pageShift);
    }
  }

  private static long read(int pageShift, String file) throws IOException {
    return Long.parseLong(Files.readString(directory(pageShift).resolve(file)).strip());
  }

  private static Path directory(int pageShift) {
    return Path.of("/sys/kernel/mm/hugepages/hugepages-" + (1L << (pageShift - 10)) + "kB");
  }
}
