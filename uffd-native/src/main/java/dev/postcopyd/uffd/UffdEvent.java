package dev.postcopyd.uffd;

import dev.postcopyd.uffd.abi.UapiConstants;

/**
 * One {@code struct uffd_msg} as an object, for everything but the hot path, which reads {@link
 * UffdEventBuffer} itself. Addresses are the observed process's own.
 */
public sealed interface UffdEvent {
  /**
   * A thread touched a page and sleeps until it is woken.
   *
   * @param address where: rounded down to the page unless {@link UffdFeature#EXACT_ADDRESS}
   * @param flags {@code UFFD_PAGEFAULT_FLAG_*}
   * @param threadId who, in the reader's pid namespace; 0 without {@link UffdFeature#THREAD_ID}
   */
  record Pagefault(long address, long flags, int threadId) implements UffdEvent {
    public boolean isWrite() {
      return (flags & UapiConstants.UFFD_PAGEFAULT_FLAG_WRITE) != 0;
    }

    public boolean isWriteProtect() {
      return (flags & UapiConstants.UFFD_PAGEFAULT_FLAG_WP) != 0;
    }

    public boolean isMinor() {
      return (flags & UapiConstants.UFFD_PAGEFAULT_FLAG_MINOR) != 0;
    }
  }

  /** The pages from {@code start} to {@code end} are missing again; the range is still there. */
  record Remove(long start, long end) implements UffdEvent {}

  /** The range from {@code start} to {@code end} is no longer mapped. */
  record Unmap(long start, long end) implements UffdEvent {}

  /** {@code length} bytes at {@code from}, pages and registration, are now at {@code to}. */
  record Remap(long from, long to, long length) implements UffdEvent {}

  /**
   * The process has forked. The child's memory is registered with a userfaultfd of its own, which
   * this event brings along.
   *
   * @param fd the new descriptor; whoever reads the event owns it and has to adopt or close it
   */
  record Fork(int fd) implements UffdEvent {}
}
