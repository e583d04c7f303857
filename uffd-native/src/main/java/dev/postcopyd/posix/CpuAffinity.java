package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SCHED_GETAFFINITY;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SCHED_SETAFFINITY;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.BitSet;

/**
 * On which CPUs the calling platform thread may run. Measurements need it: the latency of a page
 * fault depends more on whether both sides share a CPU than on anything a program does.
 */
public final class CpuAffinity {
  /** Room for 8192 CPUs, the most that Linux can be built for. */
  private static final int MASK_BYTES = 1024;

  private CpuAffinity() {}

  /** The CPUs that the calling thread may use. */
  public static BitSet ofCurrentThread() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment mask = arena.allocate(MASK_BYTES, Long.BYTES);
      long bytes =
          ErrnoException.check(
              Libc.syscall(SYS_SCHED_GETAFFINITY, 0, MASK_BYTES, mask.address()),
              "sched_getaffinity",
              "the current thread");
      return BitSet.valueOf(mask.asSlice(0, bytes).toArray(JAVA_BYTE));
    }
  }

  /** Restricts the calling thread to these CPUs. */
  public static void setCurrentThread(BitSet cpus) throws IOException {
    byte[] bytes = cpus.toByteArray();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment mask = arena.allocate(MASK_BYTES, Long.BYTES);
      MemorySegment.copy(bytes, 0, mask, JAVA_BYTE, 0, bytes.length);
      ErrnoException.check(
          Libc.syscall(SYS_SCHED_SETAFFINITY, 0, MASK_BYTES, mask.address()),
          "sched_setaffinity to CPUs " + cpus,
          "the current thread");
    }
  }

  /** Pins the calling thread to one CPU. */
  public static void pinCurrentThread(int cpu) throws IOException {
    BitSet cpus = new BitSet();
    cpus.set(cpu);
    setCurrentThread(cpus);
  }
}
