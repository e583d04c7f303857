package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_PROCESS_VM_READV;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * The memory of another process, read by {@code process_vm_readv(2)}: a copy that the other process
 * takes no part in, and can't change afterwards.
 *
 * <p>Belongs to one thread, or to several one after the other: an object has the two vectors of its
 * calls. Allocates nothing for a read. The native memory is freed with the object. The caller sees
 * to it that the number is still the process's, and that no page waits for somebody to bring it: a
 * read would wait, too.
 */
public final class ProcessMemory {
  private static final int IOVEC_BYTES = 16;

  private final int pid;
  private final MemorySegment vectors = Arena.ofAuto().allocate(2L * IOVEC_BYTES, Long.BYTES);
  private final long local = vectors.address();
  private final long remote = vectors.address() + IOVEC_BYTES;

  public ProcessMemory(int pid) {
    this.pid = pid;
  }

  /**
   * Copies bytes at an address of the process's to an address of ours.
   *
   * @throws ErrnoException EPERM without the right to look into the process, ESRCH if it is gone,
   *     EFAULT where nothing is mapped
   */
  public void readFully(long address, long lengthBytes, long destination) throws IOException {
    long done = 0;
    while (done < lengthBytes) {
      vectors.set(JAVA_LONG, 0, destination + done);
      vectors.set(JAVA_LONG, 8, lengthBytes - done);
      vectors.set(JAVA_LONG, IOVEC_BYTES, address + done);
      vectors.set(JAVA_LONG, IOVEC_BYTES + 8, lengthBytes - done);
      long got = Libc.trySyscall(SYS_PROCESS_VM_READV, pid, local, 1, remote, 1);
      if (got <= 0) {
        // Again for the errno: reading twice is reading.
        got = Libc.syscall(SYS_PROCESS_VM_READV, pid, local, 1, remote, 1, 0);
        if (got <= 0) {
          throw failure(address + done, lengthBytes - done, got);
        }
      }
      done += got;
    }
  }

  private ErrnoException failure(long address, long lengthBytes, long answer) {
    int errno = answer == 0 ? Errno.EFAULT : (int) -answer;
    String subject = "%d bytes at 0x%x of process %d".formatted(lengthBytes, address, pid);
    return errno == Errno.EPERM
        ? new ErrnoException(
            "process_vm_readv",
            subject,
            errno,
            "run postcopyd as the same user or with CAP_SYS_PTRACE (kernel.yama.ptrace_scope must"
                + " allow it), or let the VMM pass a memfd for each mapping")
        : new ErrnoException("process_vm_readv", subject, errno);
  }
}
