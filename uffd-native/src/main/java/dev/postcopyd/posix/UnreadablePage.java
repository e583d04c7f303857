package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.MAP_ANONYMOUS;
import static dev.postcopyd.posix.abi.PosixConstants.MAP_FIXED_NOREPLACE;
import static dev.postcopyd.posix.abi.PosixConstants.MAP_NORESERVE;
import static dev.postcopyd.posix.abi.PosixConstants.MAP_PRIVATE;
import static dev.postcopyd.posix.abi.PosixConstants.PROT_NONE;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_MMAP;

import dev.postcopyd.posix.abi.Libc;

/**
 * A page of ours that nobody can read, for system calls that are to find out what they find out
 * before they read their source. It lies low, so that a long source that begins there ends within
 * the address space, but not below {@code vm.mmap_min_addr}: between Linux 6.6 and 7.1, and in what
 * was backported, UFFDIO_COPY looks at its source's address as it does at the destination's, and
 * answers EINVAL before anything else.
 */
public final class UnreadablePage {
  private static final long STEP = 1 << 20;
  private static final long HIGHEST = 1 << 30;
  private static final long ADDRESS = reserve();

  private UnreadablePage() {}

  /** Where it is. */
  public static long address() {
    return ADDRESS;
  }

  private static long reserve() {
    for (long at = STEP; at < HIGHEST; at += STEP) {
      long answer =
          Libc.syscall(
              SYS_MMAP,
              at,
              MemoryMapping.basePageSizeBytes(),
              PROT_NONE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
              -1,
              0);
      if (!Libc.isError(answer)) {
        return answer;
      }
    }
    throw new IllegalStateException("no address below 1 GiB can be reserved");
  }
}
