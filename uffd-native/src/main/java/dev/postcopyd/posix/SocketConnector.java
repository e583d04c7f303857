package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.AF_INET;
import static dev.postcopyd.posix.abi.PosixConstants.AF_INET6;
import static dev.postcopyd.posix.abi.PosixConstants.AF_UNIX;
import static dev.postcopyd.posix.abi.PosixConstants.POLLOUT;
import static dev.postcopyd.posix.abi.PosixConstants.SOCK_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.SOCK_NONBLOCK;
import static dev.postcopyd.posix.abi.PosixConstants.SOCK_STREAM;
import static dev.postcopyd.posix.abi.PosixConstants.SOL_SOCKET;
import static dev.postcopyd.posix.abi.PosixConstants.SO_ERROR;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_IN6_SIN6_ADDR;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_IN6_SIN6_FAMILY;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_IN6_SIN6_PORT;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_IN6_SIN6_SCOPE_ID;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_IN6_SIZEOF;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_IN_SIN_ADDR;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_IN_SIN_FAMILY;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_IN_SIN_PORT;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_IN_SIZEOF;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_CONNECT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_GETSOCKOPT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SOCKET;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.net.Inet6Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;

/**
 * Connects stream sockets, with a time limit, and gives up when told to: a connect(2) that hangs
 * can't be ended from another thread.
 *
 * <p>Every descriptor returned is connected, blocking, closed on exec, and owned by the caller.
 */
public final class SocketConnector {
  private static final long SLICE_NANOS = 50_000_000;
  static final ValueLayout.OfShort BE16 = JAVA_SHORT.withOrder(ByteOrder.BIG_ENDIAN);

  private final Duration patience;
  private final BooleanSupplier abandoned;

  /**
   * @param patience how long a connection may take
   * @param abandoned asked many times a second whether to give up
   */
  public SocketConnector(Duration patience, BooleanSupplier abandoned) {
    this.patience = patience;
    this.abandoned = abandoned;
  }

  /** Connects to a resolved address. */
  public int connect(InetSocketAddress address) throws IOException {
    InetAddress host = address.getAddress();
    if (host == null) {
      throw new IOException("connect to " + address.getHostString() + ": unknown host");
    }
    try (Arena arena = Arena.ofConfined()) {
      return host instanceof Inet6Address inet6
          ? connect(AF_INET6, inet6(arena, inet6, address.getPort()), address.toString())
          : connect(AF_INET, inet4(arena, host, address.getPort()), address.toString());
    }
  }

  /** Connects to a unix socket; waits while the listener's queue is full. */
  public int connect(Path path) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      return connect(AF_UNIX, UnixSocket.addressOf(arena, path), path.toString());
    }
  }

  private int connect(int family, MemorySegment address, String target) throws IOException {
    int fd =
        (int)
            ErrnoException.check(
                Libc.syscall(SYS_SOCKET, family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                "socket",
                target);
    try {
      long deadlineNanos = System.nanoTime() + patience.toNanos();
      long answer = Libc.syscall(SYS_CONNECT, fd, address.address(), address.byteSize());
      while (answer == -Errno.EAGAIN || answer == -Errno.EINTR) {
        // A unix listener's queue is full: the kernel offers nothing to wait on.
        requirePatience(deadlineNanos, target);
        LockSupport.parkNanos(1_000_000);
        answer = Libc.syscall(SYS_CONNECT, fd, address.address(), address.byteSize());
      }
      if (answer == -Errno.EINPROGRESS) {
        answer = awaitConnected(fd, deadlineNanos, target);
      }
      ErrnoException.check(answer, "connect", target);
      FileDescriptors.setNonBlocking(fd, false);
      return fd;
    } catch (IOException | RuntimeException e) {
      FileDescriptors.close(fd);
      throw e;
    }
  }

  private long awaitConnected(int fd, long deadlineNanos, String target) throws IOException {
    try (Poll poll = Poll.readable(fd);
        Arena arena = Arena.ofConfined()) {
      poll.events(0, POLLOUT);
      while (poll.await(SLICE_NANOS) == 0) {
        requirePatience(deadlineNanos, target);
      }
      MemorySegment error = arena.allocate(JAVA_INT);
      MemorySegment length = arena.allocate(JAVA_INT);
      length.set(JAVA_INT, 0, Integer.BYTES);
      ErrnoException.check(
          Libc.syscall(
              SYS_GETSOCKOPT, fd, SOL_SOCKET, SO_ERROR, error.address(), length.address(), 0),
          "getsockopt(SO_ERROR)",
          target);
      return -error.get(JAVA_INT, 0);
    }
  }

  private void requirePatience(long deadlineNanos, String target) throws IOException {
    if (abandoned.getAsBoolean()) {
      throw new ErrnoException("connect", target, Errno.ECANCELED);
    }
    if (System.nanoTime() - deadlineNanos >= 0) {
      throw new ErrnoException("connect", target, Errno.ETIMEDOUT);
    }
  }

  static MemorySegment inet4(Arena arena, InetAddress host, int port) {
    MemorySegment address = arena.allocate(SOCKADDR_IN_SIZEOF, 4);
    address.set(JAVA_SHORT, SOCKADDR_IN_SIN_FAMILY, (short) AF_INET);
    address.set(BE16, SOCKADDR_IN_SIN_PORT, (short) port);
    byte[] bytes = host.getAddress();
    MemorySegment.copy(bytes, 0, address, JAVA_BYTE, SOCKADDR_IN_SIN_ADDR, bytes.length);
    return address;
  }

  static MemorySegment inet6(Arena arena, Inet6Address host, int port) {
    MemorySegment address = arena.allocate(SOCKADDR_IN6_SIZEOF, 4);
    address.set(JAVA_SHORT, SOCKADDR_IN6_SIN6_FAMILY, (short) AF_INET6);
    address.set(BE16, SOCKADDR_IN6_SIN6_PORT, (short) port);
    byte[] bytes = host.getAddress();
    MemorySegment.copy(bytes, 0, address, JAVA_BYTE, SOCKADDR_IN6_SIN6_ADDR, bytes.length);
    address.set(JAVA_INT, SOCKADDR_IN6_SIN6_SCOPE_ID, host.getScopeId());
    return address;
  }
}
