package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_PIDFD_GETFD;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_PIDFD_OPEN;

import dev.postcopyd.posix.abi.Libc;

/**
 * The descriptors of another process, of which copies can be had by whoever may trace it (Linux
 * 5.6; see {@code pidfd_getfd(2)}). Owns a descriptor of the process. Not for two threads at once.
 */
public final class ProcessDescriptors implements AutoCloseable {
  private final int pid;
  private int pidfd;

  private ProcessDescriptors(int pid, int pidfd) {
    this.pid = pid;
    this.pidfd = pidfd;
  }

  /**
   * Those of a process.
   *
   * @throws ErrnoException if there is no such process, or an old kernel
   */
  public static ProcessDescriptors of(int pid) throws ErrnoException {
    return new ProcessDescriptors(
        pid,
        (int)
            ErrnoException.check(Libc.syscall(SYS_PIDFD_OPEN, pid, 0), "pidfd_open", "pid " + pid));
  }

  /**
   * A copy of a descriptor, closed on exec and owned by the caller.
   *
   * @param fd the other process's number
   * @throws ErrnoException {@code EPERM} if we may not trace the process, {@code EBADF} if it has
   *     no such descriptor
   */
  public int copy(int fd) throws ErrnoException {
    return (int)
        ErrnoException.check(
            Libc.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0), "pidfd_getfd", "fd " + fd + " of " + pid);
  }

  @Override
  public void close() {
    if (pidfd >= 0) {
      int _ = FileDescriptors.close(pidfd);
      pidfd = -1;
    }
  }
}
