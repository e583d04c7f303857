package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_IOCTL;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Which pages of a process hold anything: {@code ioctl(PAGEMAP_SCAN)} of {@code /proc/PID/pagemap}
 * (Linux 6.7). A page that was never touched, or only read, is zero and is left out.
 *
 * <p>Belongs to one thread. Owns the open file and its vector; allocates nothing for a scan. Shared
 * memory that is not mapped at the moment looks as if it had never been touched, so this is for
 * private memory only. Layout and numbers: {@code linux/fs.h} of Linux 6.18.
 */
public final class PagemapScan implements AutoCloseable {
  /** _IOWR('f', 16, struct pm_scan_arg). */
  private static final long PAGEMAP_SCAN = 3L << 30 | 96L << 16 | 'f' << 8 | 16;

  private static final long PAGE_IS_WRITTEN = 1 << 1;
  private static final long PAGE_IS_PRESENT = 1 << 3;
  private static final long PAGE_IS_SWAPPED = 1 << 4;
  private static final long PAGE_IS_PFNZERO = 1 << 5;

  private static final int ARGUMENT_BYTES = 96;
  private static final int START = 16;
  private static final int END = 24;
  private static final int WALK_END = 32;
  private static final int VEC = 40;
  private static final int VEC_LEN = 48;
  private static final int CATEGORY_INVERTED = 64;
  private static final int CATEGORY_MASK = 72;
  private static final int CATEGORY_ANYOF_MASK = 80;
  private static final int RETURN_MASK = 88;

  private static final int REGIONS = 1024;
  private static final int REGION_BYTES = 24;

  private final NativeFile pagemap;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment argument = arena.allocate(ARGUMENT_BYTES, Long.BYTES);
  private final MemorySegment regions = arena.allocate((long) REGIONS * REGION_BYTES, Long.BYTES);

  /** Takes what was found. */
  @FunctionalInterface
  public interface Sink {
    /** These pages are not known to be zero; in ascending order, merged where they touch. */
    void populated(long start, long end) throws IOException;
  }

  /** Takes what was found, and whether it was written to. */
  @FunctionalInterface
  public interface WrittenSink {
    /** Pages in ascending order; {@code written}: they are not write-protected any more, or yet. */
    void populated(long start, long end, boolean written) throws IOException;
  }

  private PagemapScan(NativeFile pagemap) {
    this.pagemap = pagemap;
  }

  /**
   * Opens the page map of a process, 0 for this one.
   *
   * @throws ErrnoException EACCES or EPERM without the right to look into it
   */
  public static PagemapScan open(int pid) throws IOException {
    String path = "/proc/" + (pid == 0 ? "self" : Integer.toString(pid)) + "/pagemap";
    return new PagemapScan(NativeFile.open(path, NativeFile.Mode.READ));
  }

  /** Whether the kernel has it, asked for nothing at all. */
  public boolean isSupported() {
    try {
      scan(4096, 8192, 0, (_, _) -> {});
      return true;
    } catch (IOException e) {
      return false;
    }
  }

  /**
   * Scans a range, whole pages.
   *
   * @param gapBytes how much that holds nothing may lie between what is told as one; 0 for none
   */
  public void scan(long start, long end, long gapBytes, Sink sink) throws IOException {
    long from = start;
    long pendingStart = 0;
    long pendingEnd = 0;
    while (from < end) {
      int found = call(from, end, PAGE_IS_PRESENT | PAGE_IS_SWAPPED);
      for (int i = 0; i < found; i++) {
        long at = (long) i * REGION_BYTES;
        long regionStart = regions.get(JAVA_LONG, at);
        if (pendingEnd == 0 || regionStart - pendingEnd > gapBytes) {
          if (pendingEnd > pendingStart) {
            sink.populated(pendingStart, pendingEnd);
          }
          pendingStart = regionStart;
        }
        pendingEnd = regions.get(JAVA_LONG, at + 8);
      }
      from = walked(from);
    }
    if (pendingEnd > pendingStart) {
      sink.populated(pendingStart, pendingEnd);
    }
  }

  /**
   * Scans a range, whole pages, of memory that was write-protected by a userfaultfd: what holds
   * anything, and whether its protection is gone. A page that was not there when its neighbours
   * were protected counts as written.
   */
  public void scanWritten(long start, long end, WrittenSink sink) throws IOException {
    long from = start;
    while (from < end) {
      int found = call(from, end, PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_WRITTEN);
      for (int i = 0; i < found; i++) {
        long at = (long) i * REGION_BYTES;
        sink.populated(
            regions.get(JAVA_LONG, at),
            regions.get(JAVA_LONG, at + 8),
            (regions.get(JAVA_LONG, at + 16) & PAGE_IS_WRITTEN) != 0);
      }
      from = walked(from);
    }
  }

  /** How far the last call came; what it has not looked at must not pass for empty. */
  private long walked(long from) throws IOException {
    long walked = argument.get(JAVA_LONG, WALK_END);
    if (walked <= from) {
      throw new IOException(
          "PAGEMAP_SCAN of %s does not get beyond 0x%x".formatted(pagemap.name(), from));
    }
    return walked;
  }

  private int call(long start, long end, long returned) throws ErrnoException {
    argument.fill((byte) 0);
    argument.set(JAVA_LONG, 0, ARGUMENT_BYTES);
    argument.set(JAVA_LONG, START, start);
    argument.set(JAVA_LONG, END, end);
    argument.set(JAVA_LONG, VEC, regions.address());
    argument.set(JAVA_LONG, VEC_LEN, REGIONS);
    argument.set(JAVA_LONG, CATEGORY_INVERTED, PAGE_IS_PFNZERO);
    argument.set(JAVA_LONG, CATEGORY_MASK, PAGE_IS_PFNZERO);
    argument.set(JAVA_LONG, CATEGORY_ANYOF_MASK, PAGE_IS_PRESENT | PAGE_IS_SWAPPED);
    argument.set(JAVA_LONG, RETURN_MASK, returned);
    return (int)
        ErrnoException.check(
            Libc.syscall(SYS_IOCTL, pagemap.fd(), PAGEMAP_SCAN, argument.address()),
            "PAGEMAP_SCAN",
            pagemap.name());
  }

  @Override
  public void close() {
    pagemap.close();
    arena.close();
  }
}
