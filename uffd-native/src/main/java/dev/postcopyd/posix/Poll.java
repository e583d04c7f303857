package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.POLLERR;
import static dev.postcopyd.posix.abi.PosixConstants.POLLHUP;
import static dev.postcopyd.posix.abi.PosixConstants.POLLIN;
import static dev.postcopyd.posix.abi.PosixConstants.POLLNVAL;
import static dev.postcopyd.posix.abi.PosixStructs.POLLFD_EVENTS;
import static dev.postcopyd.posix.abi.PosixStructs.POLLFD_FD;
import static dev.postcopyd.posix.abi.PosixStructs.POLLFD_REVENTS;
import static dev.postcopyd.posix.abi.PosixStructs.POLLFD_SIZEOF;
import static dev.postcopyd.posix.abi.PosixStructs.TIMESPEC_SIZEOF;
import static dev.postcopyd.posix.abi.PosixStructs.TIMESPEC_TV_NSEC;
import static dev.postcopyd.posix.abi.PosixStructs.TIMESPEC_TV_SEC;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_PPOLL;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * {@code poll(2)} over a fixed set of descriptors, which stay their owners'.
 *
 * <p>Used by one thread at a time; nothing is allocated per wait. Owns a little native memory.
 */
public final class Poll implements AutoCloseable {
  private final Arena arena = Arena.ofShared();
  private final MemorySegment pollFds;
  private final MemorySegment timeout = arena.allocate(TIMESPEC_SIZEOF, Long.BYTES);
  private final int count;

  private Poll(int[] fds) {
    count = fds.length;
    pollFds = arena.allocate((long) POLLFD_SIZEOF * Math.max(count, 1), Integer.BYTES);
    for (int i = 0; i < count; i++) {
      pollFds.set(JAVA_INT, (long) i * POLLFD_SIZEOF + POLLFD_FD, fds[i]);
      events(i, POLLIN);
    }
  }

  /** Waits for any of the descriptors to be readable. */
  public static Poll readable(int... fds) {
    return new Poll(fds);
  }

  /** Changes what is waited for on the descriptor at {@code index}: POLLIN, POLLOUT or both. */
  public void events(int index, int events) {
    pollFds.set(JAVA_SHORT, (long) index * POLLFD_SIZEOF + POLLFD_EVENTS, (short) events);
  }

  /**
   * Waits.
   *
   * @param timeoutNanos how long at most; 0 does not wait, a negative number waits for ever
   * @return how many descriptors are ready; 0 when the time is over or a signal came
   */
  public int await(long timeoutNanos) throws IOException {
    long timespec = 0;
    if (timeoutNanos >= 0) {
      timeout.set(JAVA_LONG, TIMESPEC_TV_SEC, timeoutNanos / 1_000_000_000L);
      timeout.set(JAVA_LONG, TIMESPEC_TV_NSEC, timeoutNanos % 1_000_000_000L);
      timespec = timeout.address();
    }
    long answer = Libc.trySyscall(SYS_PPOLL, pollFds.address(), count, timespec, 0, 0);
    return answer >= 0 ? (int) answer : lookAtOnce();
  }

  /** After a failure: says what it was, or, if it was a signal, what is ready now. */
  private int lookAtOnce() throws IOException {
    timeout.fill((byte) 0);
    long answer;
    do {
      answer = Libc.syscall(SYS_PPOLL, pollFds.address(), count, timeout.address(), 0);
    } while (answer == -Errno.EINTR);
    return (int) ErrnoException.check(answer, "ppoll", count + " descriptors");
  }

  /** The events that the last wait found on the descriptor at {@code index}, as POLL bits. */
  public int ready(int index) {
    return pollFds.get(JAVA_SHORT, (long) index * POLLFD_SIZEOF + POLLFD_REVENTS);
  }

  /** Whether the last wait found something to read there. */
  public boolean isReadable(int index) {
    return (ready(index) & POLLIN) != 0;
  }

  /** Whether the last wait found the descriptor broken or its other end gone. */
  public boolean isBroken(int index) {
    return (ready(index) & (POLLERR | POLLHUP | POLLNVAL)) != 0;
  }

  @Override
  public void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
