package dev.postcopyd.posix;

import java.io.IOException;
import org.jspecify.annotations.Nullable;

/**
 * A system call failed. The message says which call, on what, and with which errno: {@code pread of
 * 4096 bytes at offset 8192 of /var/lib/vm.snap: EIO (Input/output error)}.
 */
public class ErrnoException extends IOException {
  private final String call;
  private final String target;
  private final int errno;

  /**
   * @param call the system call's name, such as {@code open}
   * @param target what it was made on, as a reader would name it; may say offsets and lengths
   * @param errno the positive error number
   */
  public ErrnoException(String call, String target, int errno) {
    this(call, target, errno, null);
  }

  /** As above, with one more sentence about the cause or the remedy. */
  public ErrnoException(String call, String target, int errno, @Nullable String advice) {
    super(
        call
            + " of "
            + target
            + ": "
            + Errno.describe(errno)
            + (advice == null ? "" : "; " + advice));
    this.call = call;
    this.target = target;
    this.errno = errno;
  }

  /** The positive error number, one of {@link Errno}. */
  public int errno() {
    return errno;
  }

  /** The system call that failed. */
  public String call() {
    return call;
  }

  /** What the call was made on. */
  public String target() {
    return target;
  }

  /** Returns {@code answer} if it is a result and throws if it is a negative errno. */
  static long check(long answer, String call, String target) throws ErrnoException {
    if (answer < 0) {
      throw new ErrnoException(call, target, (int) -answer);
    }
    return answer;
  }
}
