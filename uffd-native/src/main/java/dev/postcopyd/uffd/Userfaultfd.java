package dev.postcopyd.uffd;

import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_READ;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_CONTINUE;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_COPY;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_MOVE;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_POISON;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_REGISTER;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_UNREGISTER;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_WAKE;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_WRITEPROTECT;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_ZEROPAGE;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_CONTINUE_MAPPED;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_CONTINUE_MODE;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_COPY_COPY;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_COPY_DST;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_COPY_LEN;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_COPY_MODE;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_COPY_SRC;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_MOVE_DST;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_MOVE_LEN;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_MOVE_MODE;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_MOVE_MOVE;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_MOVE_SRC;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_POISON_MODE;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_POISON_UPDATED;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_RANGE_LEN;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_RANGE_START;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_REGISTER_IOCTLS;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_REGISTER_MODE;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_WRITEPROTECT_MODE;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_ZEROPAGE_MODE;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_ZEROPAGE_ZEROPAGE;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A userfaultfd: the page faults of one process, read as events and resolved by calls.
 *
 * <p>The process is the one that created the descriptor, us or one that handed it over; every
 * address of the observed memory is that process's. Only {@code source} addresses are ours.
 *
 * <p>Safe for any thread: several may place pages while another reads, and none of the calls
 * allocates for its usual answer. {@link #close()} is for the owner, when no other thread is inside
 * a call; while the descriptor is open and nobody reads it, faulting threads sleep, and once the
 * last copy of it is closed they go on with zero pages.
 *
 * <p>Modes are the kernel's bits, {@code UFFDIO_*_MODE_*} of {@link
 * dev.postcopyd.uffd.abi.UapiConstants}, 0 in the usual case. Addresses and lengths are whole pages
 * of the observed memory, except a copy's source, which needs no alignment.
 */
public final class Userfaultfd implements AutoCloseable {
  private final int fd;
  private final Set<UffdFeature> features;
  private final AtomicBoolean closed = new AtomicBoolean();

  private Userfaultfd(int fd, Set<UffdFeature> features) {
    this.fd = fd;
    this.features = Set.copyOf(features);
  }

  /**
   * Creates one for this process: by {@code /dev/userfaultfd} if that is allowed, else by the
   * system call.
   *
   * @throws UffdException if neither is allowed, saying how it could be, or if the kernel lacks a
   *     required feature
   */
  public static Userfaultfd open(UffdOptions options) throws IOException {
    UffdOpener.Opened opened = UffdOpener.open(options);
    return new Userfaultfd(opened.fd(), opened.features());
  }

  /**
   * Takes ownership of a descriptor that another process created, made its handshake on, and handed
   * over. On failure the descriptor is still the caller's.
   *
   * @throws UffdException if it is no userfaultfd or the handshake was never made
   */
  public static Userfaultfd adopt(int fd) throws IOException {
    return new Userfaultfd(fd, UffdFeature.ofBits(UffdDescriptorInfo.of(fd).enabledFeatures()));
  }

  /** The descriptor, still owned by this object. */
  public int fd() {
    return fd;
  }

  /** The features that are enabled. */
  public Set<UffdFeature> features() {
    return features;
  }

  /**
   * Reports faults of a range from now on.
   *
   * @return what may be called on the range
   * @throws ErrnoException EBUSY when the range belongs to another userfaultfd, EINVAL for memory
   *     that cannot be registered in this way
   */
  public RegisteredIoctls register(long address, long lengthBytes, Set<RegisterMode> modes)
      throws IOException {
    CallArguments arguments = CallArguments.ofThread();
    arguments.set(UFFDIO_RANGE_START, address);
    arguments.set(UFFDIO_RANGE_LEN, lengthBytes);
    arguments.set(UFFDIO_REGISTER_MODE, RegisterMode.bits(modes));
    arguments.set(UFFDIO_REGISTER_IOCTLS, 0);
    check(arguments.ioctl(fd, UFFDIO_REGISTER), "UFFDIO_REGISTER", address, lengthBytes);
    return new RegisteredIoctls(arguments.get(UFFDIO_REGISTER_IOCTLS));
  }

  /**
   * Ends the registration of a range of whose pages many may be write-protected, and wakes whoever
   * waits there. Protection is lifted before, piece by piece: the end of a registration lifts it,
   * too, but nobody in the process can have a page fault meanwhile (0.8 s for 1 GiB of protected 4
   * KiB pages were seen).
   *
   * @param stepBytes of a piece, whole pages of the memory
   * @return false if a part of it is not mapped, or the process is gone
   */
  public boolean endRegistration(long address, long lengthBytes, long stepBytes) {
    for (long at = 0; at < lengthBytes; at += stepBytes) {
      // What this can't do is done by what follows.
      UffdResult _ = writeProtect(address + at, Math.min(stepBytes, lengthBytes - at), 0);
    }
    boolean ended = true;
    try {
      unregister(address, lengthBytes);
    } catch (IOException e) {
      ended = false;
    }
    // The kernel wakes those who wait for missing pages, and nobody else (Linux 6.18).
    UffdResult _ = wake(address, lengthBytes);
    return ended;
  }

  /**
   * Reports no more faults of a range, and lifts its write protection; whoever waits for a missing
   * page goes on with a zero page. Where only {@link RegisterMode#WP} was registered nobody is
   * woken (Linux 6.18): {@link #wake} has to follow.
   */
  public void unregister(long address, long lengthBytes) throws IOException {
    CallArguments arguments = range(address, lengthBytes);
    check(arguments.ioctl(fd, UFFDIO_UNREGISTER), "UFFDIO_UNREGISTER", address, lengthBytes);
  }

  /**
   * Allocates what the calling thread's first call on any userfaultfd would allocate, so that it is
   * as quick as those that follow.
   */
  public static void prepareThread() {
    CallArguments _ = CallArguments.ofThread();
    Libc.prepareThread();
  }

  /** Fills missing pages with a copy of our memory at {@code source}. */
  public UffdResult copy(long destination, long source, long lengthBytes, long mode) {
    CallArguments arguments = CallArguments.ofThread();
    arguments.set(UFFDIO_COPY_DST, destination);
    arguments.set(UFFDIO_COPY_SRC, source);
    arguments.set(UFFDIO_COPY_LEN, lengthBytes);
    arguments.set(UFFDIO_COPY_MODE, mode);
    return arguments.ioctlWithAnswer(fd, UFFDIO_COPY, UFFDIO_COPY_COPY);
  }

  /** Fills missing pages with zeros; not for hugetlb memory. */
  public UffdResult zeroPage(long address, long lengthBytes, long mode) {
    CallArguments arguments = range(address, lengthBytes);
    arguments.set(UFFDIO_ZEROPAGE_MODE, mode);
    return arguments.ioctlWithAnswer(fd, UFFDIO_ZEROPAGE, UFFDIO_ZEROPAGE_ZEROPAGE);
  }

  /** Maps pages of the page cache that shared memory has but this mapping does not show yet. */
  public UffdResult continuePages(long address, long lengthBytes, long mode) {
    CallArguments arguments = range(address, lengthBytes);
    arguments.set(UFFDIO_CONTINUE_MODE, mode);
    return arguments.ioctlWithAnswer(fd, UFFDIO_CONTINUE, UFFDIO_CONTINUE_MAPPED);
  }

  /**
   * Makes missing pages raise SIGBUS (in KVM: a machine check), as broken memory would. A page that
   * is there answers {@link UffdResult.Exists}. A poisoned page still counts as missing: a copy
   * puts good contents in its place.
   */
  public UffdResult poison(long address, long lengthBytes, long mode) {
    CallArguments arguments = range(address, lengthBytes);
    arguments.set(UFFDIO_POISON_MODE, mode);
    return arguments.ioctlWithAnswer(fd, UFFDIO_POISON, UFFDIO_POISON_UPDATED);
  }

  /**
   * Moves pages from {@code source}, private anonymous memory of the same process, without copying.
   * Not across processes: there the answer is EINVAL. {@link UffdResult.TargetGone} also stands for
   * a hole at the source, and {@code Failed(EBUSY)} for a page that somebody has pinned or shares.
   */
  public UffdResult move(long destination, long source, long lengthBytes, long mode) {
    CallArguments arguments = CallArguments.ofThread();
    arguments.set(UFFDIO_MOVE_DST, destination);
    arguments.set(UFFDIO_MOVE_SRC, source);
    arguments.set(UFFDIO_MOVE_LEN, lengthBytes);
    arguments.set(UFFDIO_MOVE_MODE, mode);
    return arguments.ioctlWithAnswer(fd, UFFDIO_MOVE, UFFDIO_MOVE_MOVE);
  }

  /** Write-protects pages or, without {@code UFFDIO_WRITEPROTECT_MODE_WP}, lifts it and wakes. */
  public UffdResult writeProtect(long address, long lengthBytes, long mode) {
    CallArguments arguments = range(address, lengthBytes);
    arguments.set(UFFDIO_WRITEPROTECT_MODE, mode);
    return arguments.ioctlWithoutAnswer(fd, UFFDIO_WRITEPROTECT);
  }

  /** Wakes whoever sleeps on a fault in the range; who finds its page missing faults again. */
  public UffdResult wake(long address, long lengthBytes) {
    return range(address, lengthBytes).ioctlWithoutAnswer(fd, UFFDIO_WAKE);
  }

  /**
   * Reads the events that are pending, as many as there is room for. On a non-blocking userfaultfd
   * it never waits; on a blocking one it waits for the first.
   *
   * @return how many; 0 when there are none
   */
  public int read(UffdEventBuffer events) throws IOException {
    int count = tryRead(events);
    if (count > 0) {
      return count;
    }
    // Read again for the errno; what has come in the meantime is as good.
    long answer;
    do {
      answer = Libc.syscall(SYS_READ, fd, events.address(), events.sizeBytes());
    } while (answer == -Errno.EINTR);
    if (answer == -Errno.EAGAIN) {
      return 0;
    }
    if (answer < 0) {
      throw new ErrnoException("read", "userfaultfd " + fd, (int) -answer);
    }
    return events.filled(answer);
  }

  /**
   * Reads the pending events like {@link #read}, but answers 0 also for a failure: for a caller who
   * polls next and learns of it there.
   */
  int tryRead(UffdEventBuffer events) {
    return events.filled(Libc.trySyscall(SYS_READ, fd, events.address(), events.sizeBytes(), 0, 0));
  }

  /**
   * Makes reads wait or not. The flag belongs to the open file description, so it changes for the
   * process that handed the descriptor over, too. {@link UffdPoller} needs it set.
   */
  public void setNonBlocking(boolean nonBlocking) throws IOException {
    FileDescriptors.setNonBlocking(fd, nonBlocking);
  }

  @Override
  public void close() {
    if (closed.compareAndSet(false, true)) {
      FileDescriptors.close(fd);
    }
  }

  @Override
  public String toString() {
    return "userfaultfd " + fd + " " + features;
  }

  private static CallArguments range(long address, long lengthBytes) {
    CallArguments arguments = CallArguments.ofThread();
    arguments.set(UFFDIO_RANGE_START, address);
    arguments.set(UFFDIO_RANGE_LEN, lengthBytes);
    return arguments;
  }

  private void check(long answer, String call, long address, long lengthBytes)
      throws ErrnoException {
    if (answer < 0) {
      throw new ErrnoException(
          call,
          "%d bytes at 0x%x (userfaultfd %d)".formatted(lengthBytes, address, fd),
          (int) -answer);
    }
  }
}
