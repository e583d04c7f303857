package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_PIDFD_OPEN;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_PIDFD_SEND_SIGNAL;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;

/**
 * A process, and never another one that has got its number since.
 *
 * <p>Needs no privilege to be opened; a signal needs the usual one. Owns its descriptor; {@link
 * #close()} only when no other thread is inside a call.
 */
public final class PidFd implements AutoCloseable {
  private final int pid;
  private final int fd;

  private PidFd(int pid, int fd) {
    this.pid = pid;
    this.fd = fd;
  }

  /**
   * Opens a process. Whoever knows the number from a socket's credentials does so while the
   * connection is up.
   *
   * @throws ErrnoException ESRCH if there is no such process
   */
  public static PidFd open(int pid) throws IOException {
    return new PidFd(
        pid,
        (int)
            ErrnoException.check(Libc.syscall(SYS_PIDFD_OPEN, pid, 0), "pidfd_open", "pid " + pid));
  }

  public int pid() {
    return pid;
  }

  /** Sends a signal. */
  public void signal(int number) throws IOException {
    ErrnoException.check(
        Libc.syscall(SYS_PIDFD_SEND_SIGNAL, fd, number, 0, 0),
        "pidfd_send_signal(" + number + ")",
        "pid " + pid);
  }

  @Override
  public void close() {
    FileDescriptors.close(fd);
  }
}
