package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.FD_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.F_DUPFD_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.F_GETFL;
import static dev.postcopyd.posix.abi.PosixConstants.F_SETFD;
import static dev.postcopyd.posix.abi.PosixConstants.F_SETFL;
import static dev.postcopyd.posix.abi.PosixConstants.O_DIRECT;
import static dev.postcopyd.posix.abi.PosixConstants.O_NONBLOCK;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_CLOSE;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_FCNTL;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_GETSOCKNAME;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.postcopyd.posix.abi.Libc;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * What can be done to any raw file descriptor. Descriptors are plain ints here; whoever holds one
 * owns it and closes it exactly once. Safe for any thread.
 */
public final class FileDescriptors {
  private FileDescriptors() {}

  /** A second descriptor for the same open file description, closed on exec. */
  public static int dup(int fd) throws ErrnoException {
    return (int)
        ErrnoException.check(
            Libc.syscall(SYS_FCNTL, fd, F_DUPFD_CLOEXEC, 0), "fcntl(F_DUPFD_CLOEXEC)", "fd " + fd);
  }

  /**
   * Closes a descriptor. Never repeated on EINTR: Linux has freed the number by then, and another
   * thread may already have it anew.
   *
   * @return 0 or the negative errno, which only says how earlier writes went
   */
  public static int close(int fd) {
    return (int) Libc.syscall(SYS_CLOSE, fd);
  }

  /** Makes a descriptor that came through an exec close on the next one. */
  public static void setCloseOnExec(int fd) throws ErrnoException {
    ErrnoException.check(
        Libc.syscall(SYS_FCNTL, fd, F_SETFD, FD_CLOEXEC), "fcntl(F_SETFD)", "fd " + fd);
  }

  /**
   * Sets or clears O_NONBLOCK. The flag belongs to the open file description: it changes for every
   * process that shares it.
   */
  public static void setNonBlocking(int fd, boolean nonBlocking) throws ErrnoException {
    setFlag(fd, O_NONBLOCK, nonBlocking);
  }

  /** Sets or clears O_DIRECT, for every process that shares the open file description. */
  static void setDirect(int fd, boolean direct) throws ErrnoException {
    setFlag(fd, O_DIRECT, direct);
  }

  private static void setFlag(int fd, int flag, boolean on) throws ErrnoException {
    int flags = statusFlags(fd);
    int wanted = on ? flags | flag : flags & ~flag;
    if (wanted != flags) {
      ErrnoException.check(
          Libc.syscall(SYS_FCNTL, fd, F_SETFL, wanted), "fcntl(F_SETFL)", "fd " + fd);
    }
  }

  /** Whether it is a socket. */
  public static boolean isSocket(int fd) {
    try (Arena local = Arena.ofConfined()) {
      MemorySegment address = local.allocate(128, 8);
      MemorySegment length = local.allocate(JAVA_INT);
      length.set(JAVA_INT, 0, 128);
      return Libc.syscall(SYS_GETSOCKNAME, fd, address.address(), length.address()) == 0;
    }
  }

  /** Whether O_NONBLOCK is set. */
  public static boolean isNonBlocking(int fd) throws ErrnoException {
    return (ErrnoException.check(Libc.syscall(SYS_FCNTL, fd, F_GETFL), "fcntl(F_GETFL)", "fd " + fd)
            & O_NONBLOCK)
        != 0;
  }

  /** The access mode and the file status flags, as {@code fcntl(F_GETFL)} gives them. */
  public static int statusFlags(int fd) throws ErrnoException {
    return (int)
        ErrnoException.check(Libc.syscall(SYS_FCNTL, fd, F_GETFL), "fcntl(F_GETFL)", "fd " + fd);
  }
}
