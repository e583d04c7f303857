package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.AF_UNIX;
import static dev.postcopyd.posix.abi.PosixConstants.AT_FDCWD;
import static dev.postcopyd.posix.abi.PosixConstants.AT_SYMLINK_NOFOLLOW;
import static dev.postcopyd.posix.abi.PosixConstants.MSG_DONTWAIT;
import static dev.postcopyd.posix.abi.PosixConstants.MSG_NOSIGNAL;
import static dev.postcopyd.posix.abi.PosixConstants.SHUT_WR;
import static dev.postcopyd.posix.abi.PosixConstants.SOCK_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.SOCK_DGRAM;
import static dev.postcopyd.posix.abi.PosixConstants.SOCK_NONBLOCK;
import static dev.postcopyd.posix.abi.PosixConstants.SOCK_STREAM;
import static dev.postcopyd.posix.abi.PosixConstants.SOL_SOCKET;
import static dev.postcopyd.posix.abi.PosixConstants.SO_PEERCRED;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_UN_SIZEOF;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_UN_SUN_FAMILY;
import static dev.postcopyd.posix.abi.PosixStructs.SOCKADDR_UN_SUN_PATH;
import static dev.postcopyd.posix.abi.PosixStructs.UCRED_GID;
import static dev.postcopyd.posix.abi.PosixStructs.UCRED_PID;
import static dev.postcopyd.posix.abi.PosixStructs.UCRED_SIZEOF;
import static dev.postcopyd.posix.abi.PosixStructs.UCRED_UID;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_ACCEPT4;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_BIND;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_CONNECT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_FCHMOD;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_FCHMODAT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_FCHOWNAT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_GETPEERNAME;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_GETSOCKOPT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_LISTEN;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SENDTO;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SHUTDOWN;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SOCKET;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SOCKETPAIR;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Optional;

/**
 * Unix stream sockets as raw descriptors, for the one thing Java's own cannot do: pass other
 * descriptors ({@link FdPassing}).
 *
 * <p>Every descriptor returned is closed on exec and owned by the caller. Safe for any thread.
 */
public final class UnixSocket {
  /** The longest path that fits {@code sockaddr_un} with its terminating zero. */
  public static final int MAX_PATH_BYTES = SOCKADDR_UN_SIZEOF - SOCKADDR_UN_SUN_PATH - 1;

  private UnixSocket() {}

  /** Two connected, blocking sockets. */
  public static int[] socketPair() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment pair = arena.allocate(JAVA_INT, 2);
      ErrnoException.check(
          Libc.syscall(SYS_SOCKETPAIR, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.address()),
          "socketpair",
          "unix");
      return pair.toArray(JAVA_INT);
    }
  }

  /** Connects, waiting if the listener's queue is full, and returns a blocking socket. */
  public static int connect(Path path) throws IOException {
    int fd = socket(0);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment address = addressOf(arena, path);
      long answer;
      do {
        answer = Libc.syscall(SYS_CONNECT, fd, address.address(), address.byteSize());
      } while (answer == -Errno.EINTR);
      ErrnoException.check(answer, "connect", path.toString());
      return fd;
    } catch (IOException | RuntimeException e) {
      FileDescriptors.close(fd);
      throw e;
    }
  }

  /**
   * Connects without ever waiting, and returns a non-blocking socket.
   *
   * @throws ErrnoException {@code EAGAIN} if the listener's queue is full; whoever has time tries
   *     again
   */
  public static int tryConnect(Path path) throws IOException {
    int fd = socket(SOCK_NONBLOCK);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment address = addressOf(arena, path);
      ErrnoException.check(
          Libc.syscall(SYS_CONNECT, fd, address.address(), address.byteSize()),
          "connect",
          path.toString());
      return fd;
    } catch (IOException | RuntimeException e) {
      FileDescriptors.close(fd);
      throw e;
    }
  }

  /**
   * Connects a datagram socket, on which nothing waits: {@code sendmsg} answers EAGAIN while the
   * receiver's queue is full.
   *
   * @param path as in {@code NOTIFY_SOCKET}: a path, or a name in the abstract name space with
   *     {@code @} in front
   */
  public static int connectDatagram(String path) throws IOException {
    int fd =
        (int)
            ErrnoException.check(
                Libc.syscall(SYS_SOCKET, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                "socket",
                "unix");
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment address = addressOf(arena, Path.of(path));
      long length = address.byteSize();
      if (path.startsWith("@")) {
        // A NUL in front instead of one behind.
        address.set(java.lang.foreign.ValueLayout.JAVA_BYTE, SOCKADDR_UN_SUN_PATH, (byte) 0);
        length--;
      }
      ErrnoException.check(
          Libc.syscall(SYS_CONNECT, fd, address.address(), length), "connect", path);
      return fd;
    } catch (IOException | RuntimeException e) {
      FileDescriptors.close(fd);
      throw e;
    }
  }

  /**
   * Binds and listens, and returns a non-blocking socket. At no moment can anybody connect whom
   * {@code mode} does not allow: the socket is made for its owner alone and opened up afterwards.
   * The process's umask is neither used nor changed.
   *
   * @param path must not exist; removed by the caller in the end
   * @param mode permission bits, such as 0600 or 0660
   */
  public static int listen(Path path, int mode, int backlog) throws IOException {
    int fd = socket(SOCK_NONBLOCK);
    try (Arena arena = Arena.ofConfined()) {
      // Linux gives the new name the mode of the socket's own inode, less the umask.
      ErrnoException.check(Libc.syscall(SYS_FCHMOD, fd, 0600 & mode), "fchmod", path.toString());
      MemorySegment address = addressOf(arena, path);
      ErrnoException.check(
          Libc.syscall(SYS_BIND, fd, address.address(), address.byteSize()),
          "bind",
          path.toString());
      chmod(path, mode);
      ErrnoException.check(Libc.syscall(SYS_LISTEN, fd, backlog), "listen", path.toString());
      return fd;
    } catch (IOException | RuntimeException e) {
      FileDescriptors.close(fd);
      throw e;
    }
  }

  /**
   * Accepts one connection as a non-blocking socket.
   *
   * @return the descriptor or a negative errno; {@code -EAGAIN} when nobody is waiting
   */
  public static int accept(int listener) {
    long answer;
    do {
      answer = Libc.syscall(SYS_ACCEPT4, listener, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (answer == -Errno.EINTR);
    return (int) answer;
  }

  /**
   * Sends what the kernel takes at once; allocates nothing.
   *
   * @return how many bytes that was, or a negative errno such as {@code -EAGAIN}
   */
  public static int trySend(int fd, long address, int lengthBytes) {
    long answer;
    do {
      answer =
          Libc.syscall(SYS_SENDTO, fd, address, lengthBytes, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
    } while (answer == -Errno.EINTR);
    return (int) answer;
  }

  /** Says that nothing more will be sent; the peer reads an end of file. */
  public static void shutdownOutput(int fd) throws IOException {
    ErrnoException.check(Libc.syscall(SYS_SHUTDOWN, fd, SHUT_WR), "shutdown", "fd " + fd);
  }

  /** Who is at the other end. */
  public static PeerCredentials peerCredentials(int fd) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment credentials = arena.allocate(UCRED_SIZEOF, Integer.BYTES);
      MemorySegment length = arena.allocate(JAVA_INT);
      length.set(JAVA_INT, 0, UCRED_SIZEOF);
      ErrnoException.check(
          Libc.syscall(
              SYS_GETSOCKOPT,
              fd,
              SOL_SOCKET,
              SO_PEERCRED,
              credentials.address(),
              length.address(),
              0),
          "getsockopt(SO_PEERCRED)",
          "fd " + fd);
      return new PeerCredentials(
          credentials.get(JAVA_INT, UCRED_PID),
          credentials.get(JAVA_INT, UCRED_UID),
          credentials.get(JAVA_INT, UCRED_GID));
    }
  }

  /**
   * The path that the other end is bound to.
   *
   * @return empty if the descriptor is no connected unix socket, or the other end has no path
   */
  public static Optional<Path> peerPath(int fd) {
    try (Arena arena = Arena.ofConfined()) {
      int room = SOCKADDR_UN_SIZEOF;
      MemorySegment address = arena.allocate(room, 8);
      MemorySegment length = arena.allocate(JAVA_INT);
      length.set(JAVA_INT, 0, room);
      long answer = Libc.syscall(SYS_GETPEERNAME, fd, address.address(), length.address());
      int bytes = Math.min(length.get(JAVA_INT, 0), room) - SOCKADDR_UN_SUN_PATH;
      if (answer < 0
          || address.get(JAVA_SHORT, SOCKADDR_UN_SUN_FAMILY) != AF_UNIX
          || bytes <= 1
          || address.get(ValueLayout.JAVA_BYTE, SOCKADDR_UN_SUN_PATH) == 0) {
        return Optional.empty();
      }
      byte[] name = address.asSlice(SOCKADDR_UN_SUN_PATH, bytes).toArray(ValueLayout.JAVA_BYTE);
      int end = 0;
      while (end < name.length && name[end] != 0) {
        end++;
      }
      return Optional.of(Path.of(new String(name, 0, end, StandardCharsets.UTF_8)));
    }
  }

  /** Sets the permission bits of a path. */
  public static void chmod(Path path, int mode) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      ErrnoException.check(
          Libc.syscall(SYS_FCHMODAT, AT_FDCWD, CString.of(arena, path).address(), mode),
          "chmod to 0" + Integer.toOctalString(mode),
          path.toString());
    }
  }

  /**
   * Sets the owner and the group of a path; -1 leaves one as it is. Of a symbolic link they are its
   * own: whoever may write to the directory must not choose what is given away.
   */
  public static void chown(Path path, int uid, int gid) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      ErrnoException.check(
          Libc.syscall(
              SYS_FCHOWNAT,
              AT_FDCWD,
              CString.of(arena, path).address(),
              uid,
              gid,
              AT_SYMLINK_NOFOLLOW,
              0),
          "chown to " + uid + ":" + gid,
          path.toString());
    }
  }

  private static int socket(int flags) throws IOException {
    return (int)
        ErrnoException.check(
            Libc.syscall(SYS_SOCKET, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0),
            "socket",
            "unix");
  }

  static MemorySegment addressOf(Arena arena, Path path) throws ErrnoException {
    MemorySegment name = CString.of(arena, path);
    if (name.byteSize() - 1 > MAX_PATH_BYTES) {
      throw new ErrnoException(
          "bind or connect",
          path.toString(),
          Errno.ENAMETOOLONG,
          "a unix socket's path has at most " + MAX_PATH_BYTES + " bytes");
    }
    MemorySegment address = arena.allocate(SOCKADDR_UN_SUN_PATH + name.byteSize(), 2);
    address.set(JAVA_SHORT, SOCKADDR_UN_SUN_FAMILY, (short) AF_UNIX);
    address.asSlice(SOCKADDR_UN_SUN_PATH).copyFrom(name);
    return address;
  }
}
