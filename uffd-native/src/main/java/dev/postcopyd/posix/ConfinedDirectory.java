package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.O_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.O_CREAT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_OPENAT2;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Opens files below one directory and no others, whatever the path: the kernel itself follows it
 * and refuses to leave the directory, by {@code ..}, by a symbolic link, or by a link that changes
 * meanwhile (openat2(2), RESOLVE_BENEATH; Linux 5.6). Links that stay below are followed.
 *
 * <p>Owns a descriptor of the directory: it stays the same one even if it is renamed. Safe for any
 * thread; {@link #close} comes when nobody opens any more.
 */
public final class ConfinedDirectory implements FileOpener, AutoCloseable {
  // include/uapi/linux/openat2.h: struct open_how { flags, mode, resolve }
  private static final long OPEN_HOW_BYTES = 24;
  private static final long RESOLVE_NO_MAGICLINKS = 0x02;
  private static final long RESOLVE_BENEATH = 0x08;

  private static final int MOST_ATTEMPTS = 100;

  private final Path path;
  private final Path realPath;
  private final NativeFile directory;

  private ConfinedDirectory(Path path, Path realPath, NativeFile directory) {
    this.path = path;
    this.realPath = realPath;
    this.directory = directory;
  }

  /**
   * Opens the directory.
   *
   * @throws IOException if there is no such directory, or the kernel can't confine
   */
  public static ConfinedDirectory open(Path path) throws IOException {
    if (!Files.isDirectory(path)) {
      throw new IOException(path + " is no directory");
    }
    ConfinedDirectory opened =
        new ConfinedDirectory(
            path.toAbsolutePath(), path.toRealPath(), NativeFile.open(path, NativeFile.Mode.READ));
    try {
      opened.open(Path.of("."), NativeFile.Mode.READ).close();
    } catch (IOException e) {
      opened.close();
      throw new IOException("files can't be confined to " + path + " here: " + e.getMessage(), e);
    }
    return opened;
  }

  /** Relative paths begin in this directory. */
  @Override
  public Path resolve(Path wanted) {
    return path.resolve(wanted);
  }

  @Override
  public NativeFile open(Path wanted, NativeFile.Mode mode) throws IOException {
    Path whole = resolve(wanted);
    Path base = whole.startsWith(path) ? path : realPath;
    if (!whole.startsWith(base)) {
      throw outside(whole);
    }
    int names = base.getNameCount();
    Path rest = whole.getNameCount() == names ? Path.of(".") : below(whole, names);
    long answer = openBeneath(rest, mode);
    if (answer == -Errno.EXDEV) {
      throw outside(whole);
    }
    String name = whole.toString();
    return NativeFile.adopt((int) ErrnoException.check(answer, "open", name), name);
  }

  /** As it was written: what {@code ..} leads to is for the kernel to find out. */
  private static Path below(Path whole, int names) {
    return whole.subpath(names, whole.getNameCount());
  }

  private long openBeneath(Path relative, NativeFile.Mode mode) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment how = arena.allocate(OPEN_HOW_BYTES, Long.BYTES);
      how.setAtIndex(JAVA_LONG, 0, mode.flags() | O_CLOEXEC);
      how.setAtIndex(JAVA_LONG, 1, (mode.flags() & O_CREAT) != 0 ? 0666 : 0);
      how.setAtIndex(JAVA_LONG, 2, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
      MemorySegment name = CString.of(arena, relative);
      long answer = -Errno.EAGAIN;
      for (int i = 0; i < MOST_ATTEMPTS && mayPass(answer); i++) {
        answer =
            Libc.syscall(
                SYS_OPENAT2, directory.fd(), name.address(), how.address(), OPEN_HOW_BYTES);
      }
      return answer;
    }
  }

  /** EAGAIN: something was renamed meanwhile, and the kernel is not sure where it was. */
  private static boolean mayPass(long answer) {
    return answer == -Errno.EINTR || answer == -Errno.EAGAIN;
  }

  private IOException outside(Path whole) {
    return new IOException(
        "open of " + whole + ": refused, because it is not below " + path + " (--snapshot-dir)");
  }

  @Override
  public void close() {
    directory.close();
  }
}
