package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.EFD_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.EFD_NONBLOCK;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_EVENTFD2;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_READ;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_WRITE;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A counter that can be polled: how one thread wakes another out of {@link Poll}.
 *
 * <p>Owns its descriptor. {@link #signal()} and {@link #drain()} may be called from any thread and
 * allocate nothing; {@link #close()} only when no other thread is inside a call.
 */
public final class EventFd implements AutoCloseable {
  private final int fd;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment one = arena.allocate(JAVA_LONG);
  private final MemorySegment count = arena.allocate(JAVA_LONG);
  private final AtomicBoolean closed = new AtomicBoolean();

  private EventFd(int fd) {
    this.fd = fd;
    one.set(JAVA_LONG, 0, 1);
  }

  /** Creates one, non-blocking and with nothing signalled. */
  public static EventFd create() throws IOException {
    return new EventFd(
        (int)
            ErrnoException.check(
                Libc.syscall(SYS_EVENTFD2, 0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd2", "eventfd"));
  }

  /** The descriptor, readable while something is signalled; still owned by this object. */
  public int fd() {
    return fd;
  }

  /** Makes the descriptor readable until somebody drains it. */
  public void signal() {
    if (Libc.trySyscall(SYS_WRITE, fd, one.address(), Long.BYTES, 0, 0) < 0) {
      // Write again for the errno; signalling twice is signalling.
      checkOrEagain(Libc.syscall(SYS_WRITE, fd, one.address(), Long.BYTES), "write to");
    }
  }

  /** Takes back every signal so far; answers whether there was one. */
  public boolean drain() {
    return Libc.trySyscall(SYS_READ, fd, count.address(), Long.BYTES, 0, 0) > 0
        || checkOrEagain(Libc.syscall(SYS_READ, fd, count.address(), Long.BYTES), "read of") > 0;
  }

  /** EAGAIN is no failure: nothing to take back, or signalled as often as can be counted. */
  private static long checkOrEagain(long answer, String call) {
    if (answer < 0 && answer != -Errno.EAGAIN) {
      throw new IllegalStateException(call + " an eventfd: " + Errno.describe((int) -answer));
    }
    return answer;
  }

  @Override
  public void close() {
    if (closed.compareAndSet(false, true)) {
      FileDescriptors.close(fd);
      arena.close();
    }
  }
}
