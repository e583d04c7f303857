package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.MSG_CMSG_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.MSG_CTRUNC;
import static dev.postcopyd.posix.abi.PosixConstants.MSG_NOSIGNAL;
import static dev.postcopyd.posix.abi.PosixConstants.SCM_RIGHTS;
import static dev.postcopyd.posix.abi.PosixConstants.SOL_SOCKET;
import static dev.postcopyd.posix.abi.PosixStructs.CMSGHDR_CMSG_LEN;
import static dev.postcopyd.posix.abi.PosixStructs.CMSGHDR_CMSG_LEVEL;
import static dev.postcopyd.posix.abi.PosixStructs.CMSGHDR_CMSG_TYPE;
import static dev.postcopyd.posix.abi.PosixStructs.CMSGHDR_SIZEOF;
import static dev.postcopyd.posix.abi.PosixStructs.IOVEC_IOV_BASE;
import static dev.postcopyd.posix.abi.PosixStructs.IOVEC_IOV_LEN;
import static dev.postcopyd.posix.abi.PosixStructs.IOVEC_SIZEOF;
import static dev.postcopyd.posix.abi.PosixStructs.MSGHDR_MSG_CONTROL;
import static dev.postcopyd.posix.abi.PosixStructs.MSGHDR_MSG_CONTROLLEN;
import static dev.postcopyd.posix.abi.PosixStructs.MSGHDR_MSG_FLAGS;
import static dev.postcopyd.posix.abi.PosixStructs.MSGHDR_MSG_IOV;
import static dev.postcopyd.posix.abi.PosixStructs.MSGHDR_MSG_IOVLEN;
import static dev.postcopyd.posix.abi.PosixStructs.MSGHDR_SIZEOF;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_RECVMSG;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SENDMSG;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.postcopyd.posix.abi.Libc;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Sends and receives bytes with file descriptors attached ({@code SCM_RIGHTS}) over a unix socket.
 *
 * <p>Works on blocking and non-blocking sockets: what the socket has to say comes back as a value,
 * and no buffer is allocated per call. Holds its message header and control buffer in native
 * memory, so an object is used by one thread at a time; it may serve any number of sockets in turn.
 *
 * <p>Received descriptors are closed on exec and belong to the caller as soon as {@link #receive}
 * returns them. Those that did not fit, and everything that came with them, are closed here and
 * reported by {@link #truncated()}: half a set of descriptors is of no use to anybody.
 */
public final class FdPassing implements AutoCloseable {
  /** The most that Linux passes with one message, SCM_MAX_FD of net/scm.h. */
  public static final int MAX_FDS_PER_MESSAGE = 253;

  private final Arena arena = Arena.ofShared();
  private final int maxFds;
  private final MemorySegment header = arena.allocate(MSGHDR_SIZEOF, Long.BYTES);
  private final MemorySegment iovec = arena.allocate(IOVEC_SIZEOF, Long.BYTES);
  private final MemorySegment control;
  private int fdCount;
  private boolean truncated;

  /** Room for as many descriptors as one message can carry. */
  public FdPassing() {
    this(MAX_FDS_PER_MESSAGE);
  }

  /** Room for {@code maxFds} descriptors a message; a message that carries more is truncated. */
  public FdPassing(int maxFds) {
    if (maxFds < 1 || maxFds > MAX_FDS_PER_MESSAGE) {
      throw new IllegalArgumentException("1 to 253 descriptors, not " + maxFds);
    }
    this.maxFds = maxFds;
    // A second control message, of credentials, may come along if somebody asked for it.
    control = arena.allocate(alignUp(CMSGHDR_SIZEOF + 4L * maxFds) + 64, Long.BYTES);
    header.set(JAVA_LONG, MSGHDR_MSG_IOV, iovec.address());
    header.set(JAVA_LONG, MSGHDR_MSG_IOVLEN, 1);
  }

  /**
   * Sends once. The descriptors go with the first byte, so at least one byte is needed, and stay
   * the caller's.
   *
   * @return how many bytes were sent, or a negative errno such as {@code -EAGAIN}, with nothing
   *     sent; after a short count the rest is sent without descriptors
   */
  public int send(int socket, long address, int lengthBytes, int... fds) {
    if (fds.length > maxFds || (fds.length > 0 && lengthBytes < 1)) {
      throw new IllegalArgumentException(
          "cannot pass %d descriptors with %d bytes".formatted(fds.length, lengthBytes));
    }
    long controlLength = 0;
    if (fds.length > 0) {
      long length = CMSGHDR_SIZEOF + 4L * fds.length;
      control.set(JAVA_LONG, CMSGHDR_CMSG_LEN, length);
      control.set(JAVA_INT, CMSGHDR_CMSG_LEVEL, SOL_SOCKET);
      control.set(JAVA_INT, CMSGHDR_CMSG_TYPE, SCM_RIGHTS);
      MemorySegment.copy(fds, 0, control, JAVA_INT, CMSGHDR_SIZEOF, fds.length);
      controlLength = alignUp(length);
    }
    prepare(address, lengthBytes, controlLength);
    long answer;
    do {
      answer = Libc.syscall(SYS_SENDMSG, socket, header.address(), MSG_NOSIGNAL);
    } while (answer == -Errno.EINTR);
    return (int) answer;
  }

  /** As above, from an array. */
  public int send(int socket, byte[] bytes, int... fds) {
    try (Arena copies = Arena.ofConfined()) {
      MemorySegment copy = copies.allocate(Math.max(bytes.length, 1));
      MemorySegment.copy(bytes, 0, copy, JAVA_BYTE, 0, bytes.length);
      return send(socket, copy.address(), bytes.length, fds);
    }
  }

  /**
   * Receives once. How many descriptors came is {@link #fdCount()}; they stand at the beginning of
   * {@code fds}, in the order in which they were sent. A message with descriptors never shares an
   * answer with the bytes sent after it, so the descriptors belong to the last bytes received.
   *
   * @param fds room for what may come; if it does not suffice, all are closed and {@link
   *     #truncated()} says so
   * @return how many bytes came; 0 at the end of the stream; or a negative errno such as {@code
   *     -EAGAIN}
   */
  public int receive(int socket, long address, int lengthBytes, int[] fds) {
    fdCount = 0;
    truncated = false;
    prepare(address, lengthBytes, control.byteSize());
    long answer;
    do {
      answer = Libc.syscall(SYS_RECVMSG, socket, header.address(), MSG_CMSG_CLOEXEC);
    } while (answer == -Errno.EINTR);
    if (answer >= 0) {
      collect(fds);
    }
    return (int) answer;
  }

  /** How many descriptors the last {@link #receive} returned. */
  public int fdCount() {
    return fdCount;
  }

  /** Whether the last {@link #receive} met more descriptors than there was room for. */
  public boolean truncated() {
    return truncated;
  }

  @Override
  public void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }

  private void prepare(long address, long lengthBytes, long controlLength) {
    iovec.set(JAVA_LONG, IOVEC_IOV_BASE, address);
    iovec.set(JAVA_LONG, IOVEC_IOV_LEN, lengthBytes);
    header.set(JAVA_LONG, MSGHDR_MSG_CONTROL, controlLength == 0 ? 0 : control.address());
    header.set(JAVA_LONG, MSGHDR_MSG_CONTROLLEN, controlLength);
    header.set(JAVA_INT, MSGHDR_MSG_FLAGS, 0);
  }

  /** Walks the control messages, as CMSG_FIRSTHDR and CMSG_NXTHDR do. */
  private void collect(int[] fds) {
    long end = header.get(JAVA_LONG, MSGHDR_MSG_CONTROLLEN);
    truncated = (header.get(JAVA_INT, MSGHDR_MSG_FLAGS) & MSG_CTRUNC) != 0;
    long at = 0;
    while (at + CMSGHDR_SIZEOF <= end) {
      long length = control.get(JAVA_LONG, at + CMSGHDR_CMSG_LEN);
      if (length < CMSGHDR_SIZEOF || length > end - at) {
        break;
      }
      if (control.get(JAVA_INT, at + CMSGHDR_CMSG_LEVEL) == SOL_SOCKET
          && control.get(JAVA_INT, at + CMSGHDR_CMSG_TYPE) == SCM_RIGHTS) {
        for (long fd = at + CMSGHDR_SIZEOF;
            fd + Integer.BYTES <= at + length;
            fd += Integer.BYTES) {
          take(control.get(JAVA_INT, fd), fds);
        }
      }
      at += alignUp(length);
    }
    if (truncated) {
      for (int i = 0; i < fdCount; i++) {
        FileDescriptors.close(fds[i]);
      }
      fdCount = 0;
    }
  }

  private void take(int fd, int[] fds) {
    if (fdCount < fds.length) {
      fds[fdCount++] = fd;
    } else {
      truncated = true;
      FileDescriptors.close(fd);
    }
  }

  /** CMSG_ALIGN. */
  private static long alignUp(long length) {
    return (length + Long.BYTES - 1) & -Long.BYTES;
  }
}
