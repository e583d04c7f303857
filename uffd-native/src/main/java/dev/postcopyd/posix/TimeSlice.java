package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.SCHED_ATTR_SIZE_VER0;
import static dev.postcopyd.posix.abi.PosixConstants.SCHED_BATCH;
import static dev.postcopyd.posix.abi.PosixConstants.SCHED_NORMAL;
import static dev.postcopyd.posix.abi.PosixStructs.SCHED_ATTR_SCHED_POLICY;
import static dev.postcopyd.posix.abi.PosixStructs.SCHED_ATTR_SCHED_RUNTIME;
import static dev.postcopyd.posix.abi.PosixStructs.SCHED_ATTR_SIZE;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SCHED_GETATTR;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SCHED_SETATTR;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.postcopyd.posix.abi.Libc;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * How long the calling platform thread may run before others have their turn.
 *
 * <p>Who asks for less runs sooner: Linux (6.12 and newer, EEVDF) picks whose slice ends first, and
 * a thread that wakes up for a little work need not wait until a busy one has used up its own slice
 * of some milliseconds. The share of the processor stays the same, and no privilege is needed. An
 * older kernel takes no notice, and where the call is forbidden nothing changes either.
 *
 * <p>Threads inherit it from those that make them.
 */
public final class TimeSlice {
  /** The shortest that there is. */
  private static final long SHORTEST_NANOS = 100_000;

  private TimeSlice() {}

  /**
   * For a thread that somebody waits for, and that sleeps most of the time.
   *
   * @return whether the kernel has taken the call
   */
  public static boolean shorten() {
    return set(SHORTEST_NANOS);
  }

  /** The kernel's own slice again. */
  public static void restore() {
    boolean _ = set(0);
  }

  /** The slice of the calling thread in ns, which kernels before 6.12 do not tell: 0. */
  static long nanos() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment attributes = arena.allocate(SCHED_ATTR_SIZE_VER0, Long.BYTES);
      return get(attributes) ? attributes.get(JAVA_LONG, SCHED_ATTR_SCHED_RUNTIME) : 0;
    }
  }

  private static boolean set(long nanos) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment attributes = arena.allocate(SCHED_ATTR_SIZE_VER0, Long.BYTES);
      if (!get(attributes)) {
        return false;
      }
      // For any other policy the field means something else.
      int policy = attributes.get(JAVA_INT, SCHED_ATTR_SCHED_POLICY);
      if (policy != SCHED_NORMAL && policy != SCHED_BATCH) {
        return false;
      }
      attributes.set(JAVA_INT, SCHED_ATTR_SIZE, SCHED_ATTR_SIZE_VER0);
      attributes.set(JAVA_LONG, SCHED_ATTR_SCHED_RUNTIME, nanos);
      return Libc.syscall(SYS_SCHED_SETATTR, 0, attributes.address(), 0) == 0;
    }
  }

  private static boolean get(MemorySegment attributes) {
    return Libc.syscall(SYS_SCHED_GETATTR, 0, attributes.address(), SCHED_ATTR_SIZE_VER0, 0) == 0;
  }
}
