package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.AT_EMPTY_PATH;
import static dev.postcopyd.posix.abi.PosixConstants.AT_FDCWD;
import static dev.postcopyd.posix.abi.PosixConstants.BLKGETSIZE64;
import static dev.postcopyd.posix.abi.PosixConstants.STATX_BASIC_STATS;
import static dev.postcopyd.posix.abi.PosixConstants.S_IFBLK;
import static dev.postcopyd.posix.abi.PosixConstants.S_IFDIR;
import static dev.postcopyd.posix.abi.PosixConstants.S_IFMT;
import static dev.postcopyd.posix.abi.PosixConstants.S_IFREG;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_SIZEOF;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_STX_CTIME;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_STX_DEV_MAJOR;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_STX_DEV_MINOR;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_STX_GID;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_STX_INO;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_STX_MODE;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_STX_MTIME;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_STX_SIZE;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_STX_UID;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_TIMESTAMP_TV_NSEC;
import static dev.postcopyd.posix.abi.PosixStructs.STATX_TIMESTAMP_TV_SEC;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_IOCTL;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_STATX;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import dev.postcopyd.posix.abi.Libc;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;

/**
 * What {@code statx(2)} says of a file. statx and not fstat, because its structure is the same on
 * every platform.
 *
 * @param mode file type and permission bits, as {@code st_mode}
 * @param ctimeNanos when contents, owner, mode or name changed last, in nanoseconds since 1970;
 *     unlike the other times nobody can set it
 */
public record FileStatus(int mode, int uid, int gid, FileIdentity identity, long ctimeNanos) {

  /** The status of an open file; {@code name} is for the error message. */
  public static FileStatus of(int fd, String name) throws ErrnoException {
    try (Arena arena = Arena.ofConfined()) {
      return statx(arena, fd, CString.of(arena, ""), AT_EMPTY_PATH, name);
    }
  }

  /** The status of what a path leads to, symbolic links followed. */
  public static FileStatus of(Path path) throws ErrnoException {
    try (Arena arena = Arena.ofConfined()) {
      return statx(arena, AT_FDCWD, CString.of(arena, path), 0, path.toString());
    }
  }

  private static FileStatus statx(Arena arena, int fd, MemorySegment path, int flags, String name)
      throws ErrnoException {
    MemorySegment statx = arena.allocate(STATX_SIZEOF, Long.BYTES);
    ErrnoException.check(
        Libc.syscall(SYS_STATX, fd, path.address(), flags, STATX_BASIC_STATS, statx.address(), 0),
        "statx",
        name);
    long device =
        (long) statx.get(JAVA_INT, STATX_STX_DEV_MAJOR) << 32
            | Integer.toUnsignedLong(statx.get(JAVA_INT, STATX_STX_DEV_MINOR));
    return new FileStatus(
        Short.toUnsignedInt(statx.get(JAVA_SHORT, STATX_STX_MODE)),
        statx.get(JAVA_INT, STATX_STX_UID),
        statx.get(JAVA_INT, STATX_STX_GID),
        new FileIdentity(
            device,
            statx.get(JAVA_LONG, STATX_STX_INO),
            statx.get(JAVA_LONG, STATX_STX_SIZE),
            nanosAt(statx, STATX_STX_MTIME)),
        nanosAt(statx, STATX_STX_CTIME));
  }

  private static long nanosAt(MemorySegment statx, long timestamp) {
    return statx.get(JAVA_LONG, timestamp + STATX_TIMESTAMP_TV_SEC) * 1_000_000_000L
        + statx.get(JAVA_INT, timestamp + STATX_TIMESTAMP_TV_NSEC);
  }

  public boolean isRegularFile() {
    return (mode & S_IFMT) == S_IFREG;
  }

  public boolean isDirectory() {
    return (mode & S_IFMT) == S_IFDIR;
  }

  public boolean isBlockDevice() {
    return (mode & S_IFMT) == S_IFBLK;
  }

  /** The length of the open file with this status; a block device has to be asked for its own. */
  long sizeBytes(int fd, String name) throws ErrnoException {
    if (!isBlockDevice()) {
      return identity.sizeBytes();
    }
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment size = arena.allocate(JAVA_LONG);
      ErrnoException.check(
          Libc.syscall(SYS_IOCTL, fd, Integer.toUnsignedLong(BLKGETSIZE64), size.address()),
          "ioctl(BLKGETSIZE64)",
          name);
      return size.get(JAVA_LONG, 0);
    }
  }
}
