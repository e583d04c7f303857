package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.FICLONE;
import static dev.postcopyd.posix.abi.PosixConstants.FS_IOC_FSGETXATTR;
import static dev.postcopyd.posix.abi.PosixConstants.FS_IOC_FSSETXATTR;
import static dev.postcopyd.posix.abi.PosixConstants.FS_XFLAG_COWEXTSIZE;
import static dev.postcopyd.posix.abi.PosixStructs.FSXATTR_FSX_COWEXTSIZE;
import static dev.postcopyd.posix.abi.PosixStructs.FSXATTR_FSX_XFLAGS;
import static dev.postcopyd.posix.abi.PosixStructs.FSXATTR_SIZEOF;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_IOCTL;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Files that share their blocks on the disk until either is written to (reflink). Stateless. */
public final class SharedBlocks {
  /** The block of most file systems, and a page. */
  private static final int BLOCK_BYTES = 4096;

  private SharedBlocks() {}

  /**
   * Makes a file's contents those of another one, if the file system can.
   *
   * @param file open for writing
   * @return false, and nothing has changed, if it can't: it has no such thing, or the two are not
   *     on the same one
   */
  public static boolean tryCopy(NativeFile other, NativeFile file) throws IOException {
    long answer;
    do {
      answer = Libc.syscall(SYS_IOCTL, file.fd(), FICLONE, other.fd());
    } while (answer == -Errno.EINTR);
    return switch ((int) -answer) {
      case Errno.EOPNOTSUPP, Errno.EXDEV, Errno.EINVAL, Errno.ENOTTY -> false;
      default -> {
        ErrnoException.check(answer, "ioctl(FICLONE) of " + other.name(), file.name());
        yield true;
      }
    };
  }

  /**
   * Has what is written to shared blocks of a file put into new ones that lie close together, in
   * the order in which they are written to the disk. XFS takes 128 KiB for the first write to such
   * a piece, and gives back what is not used of it; for pages far from each other that costs more
   * than it saves. The file keeps this, and its copies inherit it, until it is taken back.
   *
   * @param wanted false takes it back
   * @return whether the file system has such a thing
   */
  public static boolean tryKeepTogether(NativeFile file, boolean wanted) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment attributes = arena.allocate(FSXATTR_SIZEOF, Integer.BYTES);
      if (Libc.syscall(SYS_IOCTL, file.fd(), FS_IOC_FSGETXATTR, attributes.address()) != 0) {
        return false;
      }
      int flags = attributes.get(JAVA_INT, FSXATTR_FSX_XFLAGS);
      attributes.set(
          JAVA_INT,
          FSXATTR_FSX_XFLAGS,
          wanted ? flags | FS_XFLAG_COWEXTSIZE : flags & ~FS_XFLAG_COWEXTSIZE);
      attributes.set(JAVA_INT, FSXATTR_FSX_COWEXTSIZE, wanted ? BLOCK_BYTES : 0);
      return Libc.syscall(SYS_IOCTL, file.fd(), FS_IOC_FSSETXATTR, attributes.address()) == 0;
    }
  }
}
