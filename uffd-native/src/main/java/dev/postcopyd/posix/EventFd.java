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
    long answer = Libc.syscall(SYS_WRITE, fd, one.address(), Long.BYTES);
    // EAGAIN: the counter is at its limit, so it is signalled anyway.
    if (answer < 0 && answer != -Errno.EAGAIN) {
      throw new IllegalStateException("write to an eventfd: " + Errno.describe((int) -answer));
    }
  }

  /** Takes back every signal so far; answers whether there was one. */
  public boolean drain() {
    long answer = Libc.syscall(SYS_READ, fd, count.address(), Long.BYTES);
    if (answer < 0 && answer != -Errno.EAGAIN) {
      throw new IllegalStateException("read of an eventfd: " + Errno.describe((int) -answer));
    }
    return answer > 0;
  }

  @Override
  public void close() {
    if (closed.compareAndSet(false, true)) {
      FileDescriptors.close(fd);
      arena.close();
    }
  }
}
