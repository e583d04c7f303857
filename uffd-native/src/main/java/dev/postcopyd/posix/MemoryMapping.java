package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.MADV_DONTNEED;
import static dev.postcopyd.posix.abi.PosixConstants.MADV_NOHUGEPAGE;
import static dev.postcopyd.posix.abi.PosixConstants.MADV_NORMAL;
import static dev.postcopyd.posix.abi.PosixConstants.MADV_POPULATE_READ;
import static dev.postcopyd.posix.abi.PosixConstants.MADV_POPULATE_WRITE;
import static dev.postcopyd.posix.abi.PosixConstants.MAP_ANONYMOUS;
import static dev.postcopyd.posix.abi.PosixConstants.MAP_HUGETLB;
import static dev.postcopyd.posix.abi.PosixConstants.MAP_HUGE_SHIFT;
import static dev.postcopyd.posix.abi.PosixConstants.MAP_NORESERVE;
import static dev.postcopyd.posix.abi.PosixConstants.MAP_PRIVATE;
import static dev.postcopyd.posix.abi.PosixConstants.MAP_SHARED;
import static dev.postcopyd.posix.abi.PosixConstants.PROT_READ;
import static dev.postcopyd.posix.abi.PosixConstants.PROT_WRITE;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_MADVISE;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_MMAP;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_MUNMAP;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A stretch of mapped memory, known by its address.
 *
 * <p>Owns the mapping: {@link #close()} unmaps it, once. Safe for any thread, except that nobody
 * may use the address after closing; the kernel gives it to the next mapping. A mapping of a file
 * outlives the file's descriptor.
 *
 * <p><b>Guest memory</b>, that is memory registered with a userfaultfd, may be missing, and a Java
 * thread which touches a missing page through a {@link MemorySegment} can stop the whole JVM: it
 * waits in the Java state, so that no safepoint is ever reached, not even by the thread that would
 * bring the page. Such memory is touched only inside plain downcalls: {@link #populateRead} and
 * {@link GuestMemoryAccess}. The same holds for a mapped file that may be truncated, where a touch
 * raises SIGBUS.
 */
public final class MemoryMapping implements AutoCloseable {
  private static final long BASE_PAGE_SIZE_BYTES = probeBasePageSize();

  private final long address;
  private final long lengthBytes;
  private final long pageSizeBytes;
  private final AtomicBoolean closed = new AtomicBoolean();

  private MemoryMapping(long address, long lengthBytes, long pageSizeBytes) {
    this.address = address;
    this.lengthBytes = lengthBytes;
    this.pageSizeBytes = pageSizeBytes;
  }

  /** The size of this machine's ordinary pages: 4096, or on aarch64 up to 65536. */
  public static long basePageSizeBytes() {
    return BASE_PAGE_SIZE_BYTES;
  }

  /** Private memory in ordinary pages, readable and writable, not counted until it is touched. */
  public static MemoryMapping anonymous(long lengthBytes) throws IOException {
    return map(
        lengthBytes,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
        Backing.anonymous(0));
  }

  /**
   * Private memory in huge pages of {@code 1 << pageShift} bytes. All of them are reserved now, so
   * that a shortage shows here and not as a SIGBUS later.
   */
  public static MemoryMapping anonymousHuge(long lengthBytes, int pageShift) throws IOException {
    HugePages.checkShift(pageShift);
    return map(
        lengthBytes,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | pageShift << MAP_HUGE_SHIFT,
        Backing.anonymous(pageShift));
  }

  /**
   * A readable and writable view of a file, shared with every other mapping of it; of a memfd,
   * memory that other processes can map too. For a huge-page memfd the pages are reserved now.
   */
  public static MemoryMapping shared(NativeFile file, long offsetBytes, long lengthBytes)
      throws IOException {
    return map(
        lengthBytes,
        PROT_READ | PROT_WRITE,
        MAP_SHARED | (file.hugePageShift() == 0 ? MAP_NORESERVE : 0),
        Backing.of(file, offsetBytes));
  }

  /**
   * A read-only view of a file, shared and unpopulated. The offset is a multiple of the page size.
   * Meant as the source of system calls, which answer EFAULT where the file has been truncated;
   * Java code that reads such a place takes a SIGBUS.
   */
  public static MemoryMapping ofFile(NativeFile file, long offsetBytes, long lengthBytes)
      throws IOException {
    return map(lengthBytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, Backing.of(file, offsetBytes));
  }

  /** What lies behind a mapping; {@code hugePageShift} 0 stands for ordinary pages. */
  private record Backing(int fd, long offsetBytes, int hugePageShift, String name) {
    static Backing anonymous(int hugePageShift) {
      return new Backing(-1, 0, hugePageShift, "anonymous memory");
    }

    static Backing of(NativeFile file, long offsetBytes) {
      return new Backing(file.fd(), offsetBytes, file.hugePageShift(), file.name());
    }

    long pageSizeBytes() {
      return hugePageShift == 0 ? BASE_PAGE_SIZE_BYTES : 1L << hugePageShift;
    }

    boolean fits(long lengthBytes) {
      long withinPage = pageSizeBytes() - 1;
      return lengthBytes > 0
          && offsetBytes >= 0
          && (offsetBytes & withinPage) == 0
          && (hugePageShift == 0 || (lengthBytes & withinPage) == 0);
    }

    String describe(long lengthBytes) {
      return "%d bytes at offset %d of %s in pages of %d bytes"
          .formatted(lengthBytes, offsetBytes, name, pageSizeBytes());
    }
  }

  private static MemoryMapping map(long lengthBytes, int protection, int flags, Backing backing)
      throws IOException {
    if (!backing.fits(lengthBytes)) {
      throw new IllegalArgumentException("cannot map " + backing.describe(lengthBytes));
    }
    long answer =
        Libc.syscall(SYS_MMAP, 0, lengthBytes, protection, flags, backing.fd, backing.offsetBytes);
    if (Libc.isError(answer)) {
      int errno = (int) -answer;
      boolean shortage =
          backing.hugePageShift != 0 && (errno == Errno.ENOMEM || errno == Errno.EINVAL);
      throw new ErrnoException(
          "mmap",
          backing.describe(lengthBytes),
          errno,
          shortage ? HugePages.shortage(backing.hugePageShift, lengthBytes) : null);
    }
    return new MemoryMapping(answer, lengthBytes, backing.pageSizeBytes());
  }

  /** Where the mapping begins. */
  public long address() {
    requireOpen();
    return address;
  }

  public long lengthBytes() {
    return lengthBytes;
  }

  /** The size of the pages that back this mapping. */
  public long pageSizeBytes() {
    return pageSizeBytes;
  }

  /**
   * Makes every page of a part present as a read would, in one plain downcall: the way for a Java
   * thread to fault on guest memory.
   *
   * @return 0, or the positive errno: {@link Errno#EFAULT} where a file ends early, {@link
   *     Errno#EHWPOISON} on a poisoned page
   */
  public int populateRead(long offsetBytes, long lengthBytes) {
    return advise(offsetBytes, lengthBytes, MADV_POPULATE_READ);
  }

  /** Makes every page of a part present and writable as a write of nothing would. */
  public int populateWrite(long offsetBytes, long lengthBytes) {
    return advise(offsetBytes, lengthBytes, MADV_POPULATE_WRITE);
  }

  /** Drops the pages of a part: private memory becomes missing, a file is read anew. */
  public int dontNeed(long offsetBytes, long lengthBytes) {
    return advise(offsetBytes, lengthBytes, MADV_DONTNEED);
  }

  /**
   * From now on a touch makes one page present, and not a transparent huge page full of them.
   *
   * @throws IOException if the kernel has such pages and does not do without them
   */
  public void forbidHugePages() throws IOException {
    int errno = advise(0, lengthBytes, MADV_NOHUGEPAGE);
    // A kernel that has none does not know the advice.
    if (errno != 0 && errno != Errno.EINVAL) {
      throw new ErrnoException("madvise(MADV_NOHUGEPAGE)", toString(), errno);
    }
  }

  /**
   * {@code madvise(2)} on a part, which begins at a page boundary.
   *
   * @return 0 or the positive errno; EINTR is retried, EAGAIN is not
   */
  public int advise(long offsetBytes, long lengthBytes, int advice) {
    checkRange(offsetBytes, lengthBytes);
    return GuestMemoryAccess.advise(address() + offsetBytes, lengthBytes, advice);
  }

  /**
   * The mapping as a segment, without a scope: valid until {@link #close()}, unchecked afterwards.
   * Only for memory that is present by nature; never for guest memory, see above.
   */
  public MemorySegment asSegment() {
    return MemorySegment.ofAddress(address()).reinterpret(lengthBytes);
  }

  @Override
  public void close() {
    if (closed.compareAndSet(false, true)) {
      long answer = Libc.syscall(SYS_MUNMAP, address, lengthBytes);
      if (answer < 0) {
        throw new IllegalStateException("munmap of " + this + ": " + Errno.describe((int) -answer));
      }
    }
  }

  @Override
  public String toString() {
    return "%d bytes at 0x%x".formatted(lengthBytes, address);
  }

  private void requireOpen() {
    if (closed.get()) {
      throw new IllegalStateException("the mapping of " + this + " is closed");
    }
  }

  private void checkRange(long offsetBytes, long length) {
    if (offsetBytes < 0 || length < 0 || length > lengthBytes - offsetBytes) {
      throw new IllegalArgumentException(
          "%d bytes at %d are not within %s".formatted(length, offsetBytes, this));
    }
  }

  /** madvise refuses an address that is no multiple of the page size, before anything else. */
  private static long probeBasePageSize() {
    for (long size = 4096; size <= 1 << 16; size <<= 1) {
      if (Libc.syscall(SYS_MADVISE, size, 0, MADV_NORMAL) == 0) {
        return size;
      }
    }
    throw new UnsupportedOperationException("pages of more than 64 KiB");
  }
}
