package dev.postcopyd.uffd;

import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_COPY_SIZEOF;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.postcopyd.posix.abi.Libc;
import dev.postcopyd.posix.abi.SyscallNumbers;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * The calling thread's room for one {@code struct uffdio_*}.
 *
 * <p>Fault threads and loaders issue calls on one userfaultfd at the same time, so the structures
 * cannot belong to it; allocating one per call is what the hot path must not do. A thread has one
 * for all userfaultfds, since a call is over before it makes the next. It is a thread-local and not
 * an object that callers pass around: looking it up costs about 3 ns of a call that takes 1000, and
 * nobody can hand it to the wrong thread. Freed some time after its thread has ended.
 */
final class CallArguments {
  /** No structure is larger than {@code uffdio_copy} and {@code uffdio_move}. */
  private static final int ROOM_BYTES = UFFDIO_COPY_SIZEOF;

  private static final ThreadLocal<CallArguments> OF_THREAD =
      ThreadLocal.withInitial(CallArguments::new);

  private final MemorySegment struct = Arena.ofAuto().allocate(ROOM_BYTES, Long.BYTES);
  private final long address = struct.address();

  private CallArguments() {}

  static CallArguments ofThread() {
    return OF_THREAD.get();
  }

  /** Sets an 8-byte field. */
  void set(int offset, long value) {
    struct.set(JAVA_LONG, offset, value);
  }

  /** Reads an 8-byte field. */
  long get(int offset) {
    return struct.get(JAVA_LONG, offset);
  }

  /** Makes a call whose structure has no answer field worth reading: 0 or the negative errno. */
  long ioctl(int fd, long request) {
    return Libc.syscall(SyscallNumbers.SYS_IOCTL, fd, request, address);
  }

  /**
   * Makes a call that answers in a field of its structure, without allocating anything.
   *
   * <p>The kernel leaves the field alone when it fails early: always with ESRCH and EINVAL, before
   * Linux 6.16 also with EAGAIN. So it is cleared first, and where it stays clear the call is made
   * again for its errno. That is harmless: the first one did nothing, and should the second
   * succeed, its answer is as true.
   */
  UffdResult ioctlWithAnswer(int fd, long request, int answerOffset) {
    set(answerOffset, 0);
    if (Libc.trySyscall(SyscallNumbers.SYS_IOCTL, fd, request, address, 0, 0) == 0) {
      return UffdResult.Done.INSTANCE;
    }
    long answer = -1;
    if (get(answerOffset) == 0) {
      answer = ioctl(fd, request);
    }
    return UffdResult.of(answer, get(answerOffset));
  }

  /** Makes a call that has no answer field, without allocating anything; as above. */
  UffdResult ioctlWithoutAnswer(int fd, long request) {
    if (Libc.trySyscall(SyscallNumbers.SYS_IOCTL, fd, request, address, 0, 0) == 0) {
      return UffdResult.Done.INSTANCE;
    }
    return UffdResult.of(ioctl(fd, request), 0);
  }
}
