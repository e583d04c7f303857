package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.AF_INET;
import static dev.postcopyd.posix.abi.PosixConstants.AF_INET6;
import static dev.postcopyd.posix.abi.PosixConstants.IPPROTO_TCP;
import static dev.postcopyd.posix.abi.PosixConstants.MSG_DONTWAIT;
import static dev.postcopyd.posix.abi.PosixConstants.MSG_NOSIGNAL;
import static dev.postcopyd.posix.abi.PosixConstants.SHUT_RDWR;
import static dev.postcopyd.posix.abi.PosixConstants.SHUT_WR;
import static dev.postcopyd.posix.abi.PosixConstants.SOL_SOCKET;
import static dev.postcopyd.posix.abi.PosixConstants.SO_KEEPALIVE;
import static dev.postcopyd.posix.abi.PosixConstants.SO_SNDBUF;
import static dev.postcopyd.posix.abi.PosixConstants.TCP_KEEPIDLE;
import static dev.postcopyd.posix.abi.PosixConstants.TCP_KEEPINTVL;
import static dev.postcopyd.posix.abi.PosixConstants.TCP_NODELAY;
import static dev.postcopyd.posix.abi.PosixConstants.TCP_NOTSENT_LOWAT;
import static dev.postcopyd.posix.abi.PosixConstants.TCP_USER_TIMEOUT;
import static dev.postcopyd.posix.abi.PosixStructs.IOVEC_IOV_BASE;
import static dev.postcopyd.posix.abi.PosixStructs.IOVEC_IOV_LEN;
import static dev.postcopyd.posix.abi.PosixStructs.IOVEC_SIZEOF;
import static dev.postcopyd.posix.abi.PosixStructs.MSGHDR_MSG_IOV;
import static dev.postcopyd.posix.abi.PosixStructs.MSGHDR_MSG_IOVLEN;
import static dev.postcopyd.posix.abi.PosixStructs.MSGHDR_SIZEOF;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_UN_SUN_FAMILY;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_READ;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SENDMSG;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SENDTO;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SETSOCKOPT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SHUTDOWN;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import dev.postcopyd.posix.abi.Libc;
import dev.postcopyd.posix.abi.SyscallNumbers;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * A connected, blocking stream socket, read and written at native addresses.
 *
 * <p>One thread may receive while another sends; two must not send at once, nor receive. {@link
 * #shutdown} may be called from any thread and ends what the others are blocked in; {@link #close}
 * only when no thread is inside a call, because the kernel hands a closed number out again. Nothing
 * is allocated by a call that succeeds. Owns its descriptor.
 */
public final class StreamSocket implements AutoCloseable {
  /** The most pieces of memory that one call takes: the kernel's limit. */
  public static final int MAX_PIECES = 1024;

  private static final int KEEPALIVE_IDLE_SECONDS = 30;
  private static final int KEEPALIVE_INTERVAL_SECONDS = 10;
  private static final int USER_TIMEOUT_MILLIS = 60_000;

  private final int fd;
  private final String name;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment headerSegment = arena.allocate(MSGHDR_SIZEOF, Long.BYTES);
  private final long headerAddress = headerSegment.address();
  private final ByteBuffer header = headerSegment.asByteBuffer().order(ByteOrder.nativeOrder());
  private boolean closed;

  private StreamSocket(int fd, String name) {
    this.fd = fd;
    this.name = name;
  }

  /**
   * Takes a connected socket over, and makes it blocking.
   *
   * @param name how messages name the peer
   */
  public static StreamSocket adopt(int fd, String name) throws IOException {
    try {
      FileDescriptors.setNonBlocking(fd, false);
    } catch (IOException e) {
      FileDescriptors.close(fd);
      throw e;
    }
    return new StreamSocket(fd, name);
  }

  /** Allocates what the calling thread's first call would. */
  public static void prepareThread() {
    Libc.prepareThread();
  }

  /** How messages name the peer. */
  public String name() {
    return name;
  }

  /** The descriptor, still owned by this object. */
  public int fd() {
    return fd;
  }

  /** Whether it is a TCP connection. */
  public boolean isTcp() {
    try (Arena local = Arena.ofConfined()) {
      MemorySegment address = local.allocate(128, 8);
      MemorySegment length = local.allocate(JAVA_INT);
      length.set(JAVA_INT, 0, 128);
      long answer =
          Libc.syscall(SyscallNumbers.SYS_GETSOCKNAME, fd, address.address(), length.address());
      int family = address.get(JAVA_SHORT, SOCKADDR_UN_SUN_FAMILY);
      return answer == 0 && (family == AF_INET || family == AF_INET6);
    }
  }

  /**
   * What a TCP connection needs on which short messages must go out at once and whose peer may
   * vanish without a word: no delay, keep-alive, and a bound on how long sent data goes
   * unacknowledged (60 s).
   *
   * @param unsentBytes how much may wait in the kernel without being sent
   */
  public void prepareTcp(int unsentBytes) throws IOException {
    option(IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
    option(IPPROTO_TCP, TCP_NOTSENT_LOWAT, unsentBytes, "TCP_NOTSENT_LOWAT");
    option(SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
    option(IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS, "TCP_KEEPIDLE");
    option(IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS, "TCP_KEEPINTVL");
    option(IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MILLIS, "TCP_USER_TIMEOUT");
  }

  /** Bounds what waits in the kernel for the peer; the kernel doubles the number. */
  public void sendBufferBytes(int bytes) throws IOException {
    option(SOL_SOCKET, SO_SNDBUF, bytes, "SO_SNDBUF");
  }

  private void option(int level, int option, int value, String what) throws IOException {
    try (Arena local = Arena.ofConfined()) {
      MemorySegment number = local.allocate(JAVA_INT);
      number.set(JAVA_INT, 0, value);
      ErrnoException.check(
          Libc.syscall(SYS_SETSOCKOPT, fd, level, option, number.address(), Integer.BYTES, 0),
          "setsockopt(" + what + ")",
          name);
    }
  }

  /**
   * Waits for bytes.
   *
   * @return how many came; 0 at the end of the stream, also after {@link #shutdown}
   */
  public long receive(long address, long lengthBytes) throws IOException {
    long answer = Libc.trySyscall(SYS_READ, fd, address, lengthBytes, 0, 0);
    while (answer < 0) {
      // Again for the errno; bytes that have come in the meantime are as good.
      answer = Libc.syscall(SYS_READ, fd, address, lengthBytes);
      if (answer < 0 && answer != -Errno.EINTR) {
        throw new ErrnoException("read", name, (int) -answer);
      }
    }
    return answer;
  }

  /** Whether nothing comes for so long; the end of the stream is something, too. */
  public boolean isQuietFor(long nanos) throws IOException {
    try (Poll poll = Poll.readable(fd)) {
      return poll.await(nanos) == 0;
    }
  }

  /** Sends all of the native memory. */
  public void sendFully(long address, long lengthBytes) throws IOException {
    long done = 0;
    while (done < lengthBytes) {
      long answer =
          Libc.trySyscall(SYS_SENDTO, fd, address + done, lengthBytes - done, MSG_NOSIGNAL, 0);
      if (answer < 0) {
        // Again for the errno: a call that fails has sent nothing.
        answer =
            Libc.syscall(SYS_SENDTO, fd, address + done, lengthBytes - done, MSG_NOSIGNAL, 0, 0);
        if (answer < 0 && answer != -Errno.EINTR) {
          throw new ErrnoException("send", name, (int) -answer);
        }
      }
      done += Math.max(0, answer);
    }
  }

  /**
   * Sends as much of the native memory as the kernel takes at once.
   *
   * @return how much went; 0 if there is no room at the moment
   */
  public long trySend(long address, long lengthBytes) throws IOException {
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    long answer = Libc.trySyscall(SYS_SENDTO, fd, address, lengthBytes, flags, 0);
    while (answer < 0) {
      // Again for the errno: a call that fails has sent nothing.
      answer = Libc.syscall(SYS_SENDTO, fd, address, lengthBytes, flags, 0, 0);
      if (answer == -Errno.EAGAIN) {
        return 0;
      }
      if (answer < 0 && answer != -Errno.EINTR) {
        throw new ErrnoException("send", name, (int) -answer);
      }
    }
    return answer;
  }

  /** Sends an array; for what is not on a hot path. */
  public void sendFully(byte[] bytes) throws IOException {
    try (Arena local = Arena.ofConfined()) {
      MemorySegment copy = local.allocate(Math.max(1, bytes.length));
      MemorySegment.copy(bytes, 0, copy, JAVA_BYTE, 0, bytes.length);
      sendFully(copy.address(), bytes.length);
    }
  }

  /**
   * Sends the first pieces of a vector.
   *
   * @return whether the vector is as it was; what could not be sent at once has changed it
   * @throws IOException after which it is not known how many bytes have been sent
   */
  public boolean sendFully(IoVector vector, int pieces, long lengthBytes) throws IOException {
    long answer = send(vector, 0, pieces);
    if (answer == lengthBytes) {
      return true;
    }
    long left = lengthBytes - answer;
    int first = vector.skip(0, answer);
    while (left > 0) {
      answer = send(vector, first, pieces);
      left -= answer;
      if (left > 0) {
        first = vector.skip(first, answer);
      }
    }
    return false;
  }

  /** Sends once; answers how much went. */
  private long send(IoVector vector, int first, int end) throws IOException {
    header.putLong(MSGHDR_MSG_IOV, vector.address() + (long) first * IOVEC_SIZEOF);
    header.putLong(MSGHDR_MSG_IOVLEN, end - first);
    long answer = Libc.trySyscall(SYS_SENDMSG, fd, headerAddress, MSG_NOSIGNAL, 0, 0);
    while (answer < 0) {
      // Again for the errno: a call that fails has sent nothing.
      answer = Libc.syscall(SYS_SENDMSG, fd, headerAddress, MSG_NOSIGNAL);
      if (answer < 0 && answer != -Errno.EINTR) {
        throw new ErrnoException("sendmsg", name, (int) -answer);
      }
    }
    return answer;
  }

  /** Ends the connection in both directions: every call on it returns soon. */
  public void shutdown() {
    long _ = Libc.syscall(SYS_SHUTDOWN, fd, SHUT_RDWR);
  }

  /** Sends nothing more; the peer reads an end behind what it has been sent. */
  public void shutdownOutput() {
    long _ = Libc.syscall(SYS_SHUTDOWN, fd, SHUT_WR);
  }

  @Override
  public synchronized void close() {
    if (!closed) {
      closed = true;
      FileDescriptors.close(fd);
      arena.close();
    }
  }

  /**
   * Pieces of native memory that are sent in one call: an array of {@code struct iovec}. Not
   * thread-safe; the memory that the pieces point to is the caller's. Written through a buffer,
   * which costs a fraction of a segment's access where only the first compiler is at work.
   */
  public static final class IoVector implements AutoCloseable {
    private final Arena arena = Arena.ofShared();
    private final long address;
    private final ByteBuffer entries;

    /** So many pieces, at most {@link #MAX_PIECES}. */
    public IoVector(int pieces) {
      if (pieces < 1 || pieces > MAX_PIECES) {
        throw new IllegalArgumentException("1 to 1024 pieces, not " + pieces);
      }
      MemorySegment segment = arena.allocate((long) pieces * IOVEC_SIZEOF, Long.BYTES);
      this.address = segment.address();
      this.entries = segment.asByteBuffer().order(ByteOrder.nativeOrder());
    }

    /** Where a piece lies, and how long it is. */
    public void set(int piece, long pieceAddress, long lengthBytes) {
      entries.putLong(piece * IOVEC_SIZEOF + IOVEC_IOV_BASE, pieceAddress);
      entries.putLong(piece * IOVEC_SIZEOF + IOVEC_IOV_LEN, lengthBytes);
    }

    /** Where a piece lies; its length stays. */
    public void setAddress(int piece, long pieceAddress) {
      entries.putLong(piece * IOVEC_SIZEOF + IOVEC_IOV_BASE, pieceAddress);
    }

    long address() {
      return address;
    }

    /** Takes sent bytes off the front; answers the first piece that has some left. */
    int skip(int first, long sentBytes) {
      long left = sentBytes;
      int piece = first;
      while (left > 0) {
        int at = piece * IOVEC_SIZEOF;
        long length = entries.getLong(at + IOVEC_IOV_LEN);
        if (left < length) {
          set(piece, entries.getLong(at + IOVEC_IOV_BASE) + left, length - left);
          return piece;
        }
        left -= length;
        piece++;
      }
      return piece;
    }

    @Override
    public void close() {
      if (arena.scope().isAlive()) {
        arena.close();
      }
    }
  }
}
