package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.F_GETLEASE;
import static dev.postcopyd.posix.abi.PosixConstants.F_RDLCK;
import static dev.postcopyd.posix.abi.PosixConstants.F_SETLEASE;
import static dev.postcopyd.posix.abi.PosixConstants.F_SETSIG;
import static dev.postcopyd.posix.abi.PosixConstants.F_UNLCK;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_FCNTL;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.nio.file.Path;

/**
 * A file that nobody begins to write to: whoever opens it for writing, or truncates it, waits until
 * the lease is given back, or for {@code /proc/sys/fs/lease-break-time} (45 s), whichever is first.
 * Ends with the process at the latest.
 *
 * <p>Owns a descriptor of its own. Safe for any thread.
 */
public final class FileLease implements AutoCloseable {
  /**
   * That somebody waits is said by a signal, by default one that would end the process. This one is
   * ignored by default, on every platform (asm-generic/signal.h).
   */
  private static final int SIGURG = 23;

  private final NativeFile file;
  private boolean closed;

  private FileLease(NativeFile file) {
    this.file = file;
  }

  /**
   * Takes a lease.
   *
   * @throws IOException if it can't be had: somebody writes to the file already, it is another
   *     user's, or its file system has none
   */
  public static FileLease take(Path path) throws IOException {
    NativeFile file = NativeFile.open(path, NativeFile.Mode.READ);
    try {
      fcntl(file, F_SETSIG, SIGURG, "F_SETSIG");
      fcntl(file, F_SETLEASE, F_RDLCK, "F_SETLEASE");
      return new FileLease(file);
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  private static long fcntl(NativeFile file, int command, int argument, String name)
      throws ErrnoException {
    return ErrnoException.check(
        Libc.syscall(SYS_FCNTL, file.fd(), command, argument), "fcntl(" + name + ")", file.name());
  }

  /** Whether somebody waits for it, or no longer does. */
  public synchronized boolean isWanted() throws IOException {
    return closed || fcntl(file, F_GETLEASE, 0, "F_GETLEASE") != F_RDLCK;
  }

  @Override
  public synchronized void close() {
    if (!closed) {
      closed = true;
      // Explicitly: the open file may live on in a child that has not executed anything yet.
      long _ = Libc.syscall(SYS_FCNTL, file.fd(), F_SETLEASE, F_UNLCK);
      file.close();
    }
  }
}
