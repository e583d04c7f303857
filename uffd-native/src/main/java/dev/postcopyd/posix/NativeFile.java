package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.AT_FDCWD;
import static dev.postcopyd.posix.abi.PosixConstants.LOCK_EX;
import static dev.postcopyd.posix.abi.PosixConstants.LOCK_NB;
import static dev.postcopyd.posix.abi.PosixConstants.MFD_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.MFD_HUGETLB;
import static dev.postcopyd.posix.abi.PosixConstants.MFD_HUGE_SHIFT;
import static dev.postcopyd.posix.abi.PosixConstants.O_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.O_CREAT;
import static dev.postcopyd.posix.abi.PosixConstants.O_DIRECTORY;
import static dev.postcopyd.posix.abi.PosixConstants.O_EXCL;
import static dev.postcopyd.posix.abi.PosixConstants.O_NONBLOCK;
import static dev.postcopyd.posix.abi.PosixConstants.O_RDONLY;
import static dev.postcopyd.posix.abi.PosixConstants.O_RDWR;
import static dev.postcopyd.posix.abi.PosixConstants.O_TRUNC;
import static dev.postcopyd.posix.abi.PosixConstants.O_WRONLY;
import static dev.postcopyd.posix.abi.PosixConstants.SYNC_FILE_RANGE_WRITE;
import static dev.postcopyd.posix.abi.PosixStructs.IOVEC_SIZEOF;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_FLOCK;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_FSYNC;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_FTRUNCATE;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_MEMFD_CREATE;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_OPENAT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_PREAD64;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_PWRITE64;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_PWRITEV;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_SYNC_FILE_RANGE;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.file.Path;

/**
 * An open file, read and written by position and by native address.
 *
 * <p>Not a {@link java.nio.channels.FileChannel}, because interrupting a thread that uses one
 * closes it for everybody; here an interrupt changes nothing. Every failure is an {@link
 * IOException} that names the file, the offset and the length, with the exact errno where the
 * kernel gave one.
 *
 * <p>Owns its descriptor. Any number of threads may read and write at once, and the file position
 * is never used. {@link #close()} may be called from any thread and more than once, but only when
 * no other thread is inside a call: the kernel hands a closed number out again. A call on a closed
 * file is an {@link IllegalStateException}.
 */
public final class NativeFile implements AutoCloseable {
  private static final int CLOSED = -1;
  private static final VarHandle FD;

  static {
    try {
      FD = MethodHandles.lookup().findVarHandle(NativeFile.class, "fd", int.class);
    } catch (ReflectiveOperationException e) {
      throw new ExceptionInInitializerError(e);
    }
  }

  /** How a path is opened. */
  public enum Mode {
    /** For reading; the file must exist. Opening never waits, not even for the writer of a FIFO. */
    READ(O_RDONLY | O_NONBLOCK),
    /** For writing, empty from the start; created if it is not there. */
    WRITE_CREATE_TRUNCATE(O_WRONLY | O_CREAT | O_TRUNC),
    /** For writing; created, and EEXIST if it is there already. */
    WRITE_CREATE_EXCLUSIVE(O_WRONLY | O_CREAT | O_EXCL),
    /** For reading and writing; created if it is not there, never emptied. */
    READ_WRITE_CREATE(O_RDWR | O_CREAT);

    private final int flags;

    Mode(int flags) {
      this.flags = flags;
    }

    int flags() {
      return flags;
    }
  }

  private final String name;
  private final int hugePageShift;
  private volatile int fd;

  private NativeFile(int fd, String name, int hugePageShift) {
    this.fd = fd;
    this.name = name;
    this.hugePageShift = hugePageShift;
  }

  /** Opens a path, closed on exec; a file that is created gets mode 0666 less the umask. */
  public static NativeFile open(Path path, Mode mode) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      return open(CString.of(arena, path), path.toString(), mode.flags);
    }
  }

  /**
   * Opens a path given as text, which is taken as UTF-8 whatever the locale: in the {@code C}
   * locale {@link Path} cannot hold a name beyond ASCII.
   */
  public static NativeFile open(String path, Mode mode) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      return open(CString.of(arena, path), path, mode.flags);
    }
  }

  private static NativeFile open(MemorySegment path, String name, int flags) throws IOException {
    long answer;
    do {
      answer = Libc.syscall(SYS_OPENAT, AT_FDCWD, path.address(), flags | O_CLOEXEC, 0666);
    } while (answer == -Errno.EINTR);
    return new NativeFile((int) ErrnoException.check(answer, "open", name), name, 0);
  }

  /**
   * Takes ownership of a descriptor that somebody else opened.
   *
   * @param name how messages shall name it, such as {@code fd:snapshot}
   */
  public static NativeFile adopt(int fd, String name) {
    if (fd < 0) {
      throw new IllegalArgumentException("not a file descriptor: " + fd);
    }
    return new NativeFile(fd, name, 0);
  }

  /** Creates an unnamed file in memory; {@code name} only shows in /proc. */
  public static NativeFile memfd(String name) throws IOException {
    return memfd(name, 0);
  }

  /**
   * Creates an unnamed file in huge pages of {@code 1 << hugePageShift} bytes. Pages are taken when
   * the file is mapped, not here.
   */
  public static NativeFile memfdHuge(String name, int hugePageShift) throws IOException {
    HugePages.checkShift(hugePageShift);
    return memfd(name, hugePageShift);
  }

  private static NativeFile memfd(String name, int hugePageShift) throws IOException {
    int flags = MFD_CLOEXEC;
    if (hugePageShift != 0) {
      flags |= MFD_HUGETLB | hugePageShift << MFD_HUGE_SHIFT;
    }
    try (Arena arena = Arena.ofConfined()) {
      long answer = Libc.syscall(SYS_MEMFD_CREATE, CString.of(arena, name).address(), flags);
      if (answer == -Errno.ENODEV && hugePageShift != 0) {
        throw new ErrnoException(
            "memfd_create", name, Errno.ENODEV, HugePages.shortage(hugePageShift, 0));
      }
      int fd = (int) ErrnoException.check(answer, "memfd_create", name);
      return new NativeFile(fd, "memfd:" + name, hugePageShift);
    }
  }

  /** How messages name this file. */
  public String name() {
    return name;
  }

  /** The descriptor, still owned by this object. */
  public int fd() {
    int current = fd;
    if (current == CLOSED) {
      throw new IllegalStateException(name + " is closed");
    }
    return current;
  }

  /** The shift of this memfd's huge pages, 0 for any other file. */
  int hugePageShift() {
    return hugePageShift;
  }

  /** The length in bytes, also of a block device. */
  public long sizeBytes() throws IOException {
    return FileStatus.of(fd(), name).sizeBytes(fd(), name);
  }

  public boolean isRegularFile() throws IOException {
    return FileStatus.of(fd(), name).isRegularFile();
  }

  public boolean isDirectory() throws IOException {
    return FileStatus.of(fd(), name).isDirectory();
  }

  public boolean isBlockDevice() throws IOException {
    return FileStatus.of(fd(), name).isBlockDevice();
  }

  /** Which file this is, and in which version. */
  public FileIdentity identity() throws IOException {
    return FileStatus.of(fd(), name).identity();
  }

  /**
   * Reads once, into native memory.
   *
   * @return how many bytes were read, possibly fewer than asked for; 0 at the end of the file
   */
  public long readAt(long address, long lengthBytes, long offsetBytes) throws IOException {
    int current = fd();
    long answer = Libc.trySyscall(SYS_PREAD64, current, address, lengthBytes, offsetBytes, 0);
    while (answer < 0) {
      // Read again for the errno; should it succeed now, the answer is as good.
      answer = Libc.syscall(SYS_PREAD64, current, address, lengthBytes, offsetBytes);
      if (answer < 0 && answer != -Errno.EINTR) {
        throw failed("pread", lengthBytes, offsetBytes, answer);
      }
    }
    return answer;
  }

  /** Reads exactly so many bytes into native memory; a file that ends earlier is an error. */
  public void readFullyAt(long address, long lengthBytes, long offsetBytes) throws IOException {
    long done = 0;
    while (done < lengthBytes) {
      long count = readAt(address + done, lengthBytes - done, offsetBytes + done);
      if (count == 0) {
        throw new ShortReadException(name, offsetBytes, lengthBytes, done);
      }
      done += count;
    }
  }

  /** Reads exactly as many bytes as the native segment is long. */
  public void readFullyAt(MemorySegment into, long offsetBytes) throws IOException {
    requireNative(into);
    readFullyAt(into.address(), into.byteSize(), offsetBytes);
  }

  /** Reads exactly so many bytes into a new array. The caller bounds the length. */
  public byte[] readBytesAt(long offsetBytes, int lengthBytes) throws IOException {
    byte[] bytes = new byte[lengthBytes];
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment copy = arena.allocate(Math.max(lengthBytes, 1));
      readFullyAt(copy.address(), lengthBytes, offsetBytes);
      MemorySegment.copy(copy, JAVA_BYTE, 0, bytes, 0, lengthBytes);
    }
    return bytes;
  }

  /** Writes all of the native memory. */
  public void writeFullyAt(long address, long lengthBytes, long offsetBytes) throws IOException {
    long done = 0;
    while (done < lengthBytes) {
      long answer =
          Libc.syscall(SYS_PWRITE64, fd(), address + done, lengthBytes - done, offsetBytes + done);
      if (answer == -Errno.EINTR) {
        continue;
      }
      if (answer <= 0) {
        // A write of more than nothing never answers 0 for a file; treat it as no space, do not
        // spin.
        throw failed("pwrite", lengthBytes, offsetBytes, answer == 0 ? -Errno.ENOSPC : answer);
      }
      done += answer;
    }
  }

  /**
   * Writes pieces of native memory one behind the other, in as few calls as possible.
   *
   * @param vector its first {@code pieces} pieces are written; undefined afterwards
   * @param lengthBytes what the pieces come to
   */
  public void writeFullyAt(
      StreamSocket.IoVector vector, int pieces, long lengthBytes, long offsetBytes)
      throws IOException {
    int first = 0;
    long done = 0;
    while (done < lengthBytes) {
      long answer =
          Libc.syscall(
              SYS_PWRITEV,
              fd(),
              vector.address() + (long) first * IOVEC_SIZEOF,
              pieces - first,
              offsetBytes + done,
              0,
              0);
      if (answer == -Errno.EINTR) {
        continue;
      }
      if (answer <= 0) {
        throw failed("pwritev", lengthBytes, offsetBytes, answer == 0 ? -Errno.ENOSPC : answer);
      }
      done += answer;
      if (done < lengthBytes) {
        first = vector.skip(first, answer);
      }
    }
  }

  /** Writes the whole native segment. */
  public void writeFullyAt(MemorySegment from, long offsetBytes) throws IOException {
    requireNative(from);
    writeFullyAt(from.address(), from.byteSize(), offsetBytes);
  }

  /** Writes the whole array. */
  public void writeBytesAt(byte[] bytes, long offsetBytes) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment copy = arena.allocate(Math.max(bytes.length, 1));
      MemorySegment.copy(bytes, 0, copy, JAVA_BYTE, 0, bytes.length);
      writeFullyAt(copy.address(), bytes.length, offsetBytes);
    }
  }

  /**
   * Locks the file against others that do so, until it is closed; a process that dies lets it go.
   * Where the file system has no locks there is no protection.
   *
   * @return false if somebody else has locked it
   */
  public boolean tryLock() {
    long answer;
    do {
      answer = Libc.syscall(SYS_FLOCK, fd(), LOCK_EX | LOCK_NB);
    } while (answer == -Errno.EINTR);
    return answer != -Errno.EAGAIN;
  }

  /** Sets the length; a longer file reads zeros where it grew. */
  public void truncate(long sizeBytes) throws IOException {
    long answer;
    do {
      answer = Libc.syscall(SYS_FTRUNCATE, fd(), sizeBytes);
    } while (answer == -Errno.EINTR);
    ErrnoException.check(answer, "ftruncate to " + sizeBytes + " bytes", name);
  }

  /** Waits until contents and length are on stable storage. */
  public void sync() throws IOException {
    long answer;
    do {
      answer = Libc.syscall(SYS_FSYNC, fd());
    } while (answer == -Errno.EINTR);
    ErrnoException.check(answer, "fsync", name);
  }

  /**
   * Has the kernel begin to write back what was written, without waiting for that; it does wait for
   * room in the device's queue.
   *
   * @return false if this is no file of which that could be asked
   */
  public boolean tryStartWriteBack() {
    return Libc.syscall(SYS_SYNC_FILE_RANGE, fd(), 0, 0, SYNC_FILE_RANGE_WRITE) == 0;
  }

  /** Waits until the names in a directory are on stable storage, as after a rename. */
  public static void syncDirectory(Path directory) throws IOException {
    try (Arena arena = Arena.ofConfined();
        NativeFile file =
            open(CString.of(arena, directory), directory.toString(), O_RDONLY | O_DIRECTORY)) {
      file.sync();
    }
  }

  /**
   * Maps a part of the file for reading, shared and unpopulated; the caller closes the mapping,
   * which outlives this file. See {@link MemoryMapping#ofFile}.
   */
  public MemoryMapping map(long offsetBytes, long lengthBytes) throws IOException {
    return MemoryMapping.ofFile(this, offsetBytes, lengthBytes);
  }

  /**
   * Makes reads and writes go past the page cache (O_DIRECT), or through it again. While they do,
   * addresses, lengths and offsets must be multiples of the device's block size, for which 4096
   * does. Changes it for all who share the open file: see {@link #reopen}.
   *
   * @throws IOException if the file system can't, with what to do
   */
  public void setDirectIo(boolean direct) throws IOException {
    try {
      FileDescriptors.setDirect(fd(), direct);
    } catch (ErrnoException e) {
      throw new IOException(
          "the file system of "
              + name
              + " has no direct I/O: switch direct-io off ("
              + e.getMessage()
              + ")",
          e);
    }
  }

  /** Opens the same file once more, so that what is set on it concerns nobody else. */
  public NativeFile reopen(Mode mode) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      return open(CString.of(arena, "/proc/self/fd/" + fd()), name, mode.flags);
    }
  }

  /** A second owner of the same open file. */
  public NativeFile dup() throws IOException {
    return new NativeFile(FileDescriptors.dup(fd()), name, hugePageShift);
  }

  /** Gives the descriptor away: this object is closed afterwards, the descriptor is not. */
  public int release() {
    int released = (int) FD.getAndSet(this, CLOSED);
    if (released == CLOSED) {
      throw new IllegalStateException(name + " is closed");
    }
    return released;
  }

  /**
   * Closes the descriptor, the first time it is called. Says nothing of how writes went: {@link
   * #sync()} does.
   */
  @Override
  public void close() {
    int closing = (int) FD.getAndSet(this, CLOSED);
    if (closing != CLOSED) {
      FileDescriptors.close(closing);
    }
  }

  @Override
  public String toString() {
    return name + " (fd " + fd + ")";
  }

  private ErrnoException failed(String call, long lengthBytes, long offsetBytes, long answer) {
    return new ErrnoException(
        call, lengthBytes + " bytes at offset " + offsetBytes + " of " + name, (int) -answer);
  }

  private static void requireNative(MemorySegment segment) {
    if (!segment.isNative()) {
      throw new IllegalArgumentException("not native memory: " + segment);
    }
  }
}
