package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.MADV_POPULATE_READ;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_MADVISE;

import dev.postcopyd.posix.abi.Libc;
import dev.postcopyd.posix.abi.LibcMemory;
import java.lang.foreign.Arena;

/**
 * Reads and compares guest memory from Java without ever touching it in the Java state.
 *
 * <p>Guest memory may be missing, and then a touch waits for a thread that resolves it. Through a
 * {@code MemorySegment} that wait would hold up every safepoint and, sooner or later, deadlock the
 * JVM. Every method here is one plain downcall or a few. Safe for any thread, allocates nothing;
 * addresses are raw and a wrong one kills the process.
 */
public final class GuestMemoryAccess {
  private static final int ZEROS_BYTES = 64 * 1024;
  private static final long ZEROS = Arena.global().allocate(ZEROS_BYTES, 4096).address();

  private GuestMemoryAccess() {}

  /** Copies guest memory to or from memory of our own; the two do not overlap. */
  public static void copy(long destination, long source, long lengthBytes) {
    LibcMemory.memcpy(destination, source, lengthBytes);
  }

  /** Whether both areas hold the same bytes. */
  public static boolean equal(long left, long right, long lengthBytes) {
    return LibcMemory.memcmp(left, right, lengthBytes) == 0;
  }

  /** Whether an area holds nothing but zeros. */
  public static boolean isZero(long address, long lengthBytes) {
    for (long done = 0; done < lengthBytes; done += ZEROS_BYTES) {
      long length = Math.min(ZEROS_BYTES, lengthBytes - done);
      if (LibcMemory.memcmp(address + done, ZEROS, length) != 0) {
        return false;
      }
    }
    return true;
  }

  /**
   * Faults in whole pages as reads would.
   *
   * @return 0 or the positive errno
   */
  public static int populateRead(long address, long lengthBytes) {
    return advise(address, lengthBytes, MADV_POPULATE_READ);
  }

  /** {@code madvise(2)}: 0 or the positive errno. */
  static int advise(long address, long lengthBytes, int advice) {
    long answer = Libc.trySyscall(SYS_MADVISE, address, lengthBytes, advice, 0, 0);
    while (answer < 0) {
      // Again for the errno: advice that is taken twice does what it does once.
      answer = Libc.syscall(SYS_MADVISE, address, lengthBytes, advice);
      if (answer < 0 && answer != -Errno.EINTR) {
        return (int) -answer;
      }
    }
    return 0;
  }
}
