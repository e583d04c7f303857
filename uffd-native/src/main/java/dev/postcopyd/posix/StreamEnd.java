package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.MSG_DONTWAIT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_RECVFROM;

import dev.postcopyd.posix.abi.Libc;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.jspecify.annotations.Nullable;

/**
 * Whether a stream socket has come to its end, for whoever waits for nothing else on it. What is
 * received is thrown away. Safe for any thread.
 */
public final class StreamEnd {
  /** As much as is taken at a time. */
  public static final int ROOM_BYTES = 64 << 10;

  private StreamEnd() {}

  /** Looks, without waiting. Any error counts as the end but that there is nothing to read. */
  public static boolean reached(int socket) {
    try (Arena arena = Arena.ofConfined()) {
      return take(socket, arena.allocate(ROOM_BYTES)) == null;
    }
  }

  /**
   * Takes what has come, without waiting; descriptors that came with it are not.
   *
   * @param room native memory that it is received into; so much is taken at most
   * @return null at the end, nothing if there is nothing
   */
  public static byte @Nullable [] take(int socket, MemorySegment room) {
    long answer;
    do {
      answer =
          Libc.syscall(SYS_RECVFROM, socket, room.address(), room.byteSize(), MSG_DONTWAIT, 0, 0);
    } while (answer == -Errno.EINTR);
    if (answer == 0 || (answer < 0 && answer != -Errno.EAGAIN)) {
      return null;
    }
    return room.asSlice(0, Math.max(0, answer)).toArray(ValueLayout.JAVA_BYTE);
  }
}
