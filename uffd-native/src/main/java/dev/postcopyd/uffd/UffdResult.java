package dev.postcopyd.uffd;

import dev.postcopyd.posix.Errno;

/**
 * What the kernel normally answers to a call that changes pages.
 *
 * <p>A call over several pages works through them in order. Where it stops after some, the answer
 * is {@link Partial} and says nothing of the reason; repeating the call for the rest tells. Every
 * other answer but {@link Done} means that nothing was done.
 *
 * <p>The usual answers are constants: asking millions of times allocates nothing.
 */
public sealed interface UffdResult {

  /** How many bytes of the {@code lengthBytes} that were asked for are dealt with now. */
  default long bytesDone(long lengthBytes) {
    return switch (this) {
      case Done _ -> lengthBytes;
      case Partial partial -> partial.bytesDone;
      case Exists _, Again _, TargetGone _, SourceUnreadable _, NoMemory _, Failed _ -> 0;
    };
  }

  /** The whole range is dealt with, and whoever waited for it is awake unless told otherwise. */
  record Done() implements UffdResult {
    static final Done INSTANCE = new Done();
  }

  /**
   * The first page is there already ({@code EEXIST}). Nobody was woken: whoever faulted on it may
   * still sleep and needs {@link Userfaultfd#wake}.
   */
  record Exists() implements UffdResult {
    static final Exists INSTANCE = new Exists();
  }

  /**
   * The address space is changing ({@code EAGAIN}): an event (remove, unmap, remap or fork) waits
   * to be read. Read the events, then call again; calling again without reading never ends. After
   * the reading the answer may stay the same for another moment, until the thread that caused the
   * event has run.
   */
  record Again() implements UffdResult {
    static final Again INSTANCE = new Again();
  }

  /** The first {@code bytesDone} bytes, at least one page and not all, are dealt with. */
  record Partial(long bytesDone) implements UffdResult {}

  /**
   * Where the pages should go is no longer there.
   *
   * @param errno {@code ENOENT}: the range is not mapped, or not registered with this userfaultfd;
   *     {@code ESRCH}: the whole process has exited
   */
  record TargetGone(int errno) implements UffdResult {
    static final TargetGone RANGE = new TargetGone(Errno.ENOENT);
    static final TargetGone PROCESS = new TargetGone(Errno.ESRCH);

    /** Whether the process has exited, and not only the range gone. */
    public boolean processGone() {
      return errno == Errno.ESRCH;
    }
  }

  /**
   * There are no bytes at the source ({@code EFAULT}): for COPY its address is unmapped or its file
   * was truncated; for CONTINUE the page cache has no page there.
   */
  record SourceUnreadable() implements UffdResult {
    static final SourceUnreadable INSTANCE = new SourceUnreadable();
  }

  /** The kernel has no memory, or no huge page, to give ({@code ENOMEM}). */
  record NoMemory() implements UffdResult {
    static final NoMemory INSTANCE = new NoMemory();
  }

  /** Anything else; {@code EINVAL}, for example, is a wrong argument and thus a bug. */
  record Failed(int errno) implements UffdResult {
    @Override
    public String toString() {
      return "Failed[" + Errno.describe(errno) + "]";
    }
  }

  /**
   * Reads an answer of the kernel.
   *
   * @param answer the ioctl's: 0 or a negative errno
   * @param field the structure's last field: bytes dealt with, a negative errno, or 0 if the kernel
   *     did not write it
   */
  static UffdResult of(long answer, long field) {
    if (answer == 0) {
      return Done.INSTANCE;
    }
    if (field > 0) {
      return new Partial(field);
    }
    int errno = (int) -(field < 0 ? field : answer);
    return switch (errno) {
      case Errno.EEXIST -> Exists.INSTANCE;
      case Errno.EAGAIN -> Again.INSTANCE;
      case Errno.ENOENT -> TargetGone.RANGE;
      case Errno.ESRCH -> TargetGone.PROCESS;
      case Errno.EFAULT -> SourceUnreadable.INSTANCE;
      case Errno.ENOMEM -> NoMemory.INSTANCE;
      default -> new Failed(errno);
    };
  }
}
