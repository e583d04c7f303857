package dev.postcopyd.uffd;

import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_EVENT_FORK;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_EVENT_PAGEFAULT;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_EVENT_REMAP;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_EVENT_REMOVE;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_EVENT_UNMAP;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_ARG_FORK_UFD;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_ARG_PAGEFAULT_ADDRESS;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_ARG_PAGEFAULT_FEAT_PTID;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_ARG_PAGEFAULT_FLAGS;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_ARG_REMAP_FROM;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_ARG_REMAP_LEN;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_ARG_REMAP_TO;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_ARG_REMOVE_END;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_ARG_REMOVE_START;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_EVENT;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFD_MSG_SIZEOF;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * Room for the events of one {@link Userfaultfd#read}, used over and over.
 *
 * <p>Belongs to one reading thread. The accessors by index are for the hot path and allocate
 * nothing; {@link #event} makes objects. What they answer is valid until the next read. The native
 * memory is freed with the object.
 */
public final class UffdEventBuffer {
  private final MemorySegment messages;
  private final int capacity;
  private int count;

  /** Room for so many events; more that are pending are left for the next read. */
  public UffdEventBuffer(int capacity) {
    if (capacity < 1 || capacity > 1 << 16) {
      throw new IllegalArgumentException("1 to 65536 events, not " + capacity);
    }
    this.capacity = capacity;
    this.messages = Arena.ofAuto().allocate((long) capacity * UFFD_MSG_SIZEOF, Long.BYTES);
  }

  public int capacity() {
    return capacity;
  }

  /** How many events the last read brought. */
  public int count() {
    return count;
  }

  /** Which event it is: {@code UFFD_EVENT_PAGEFAULT} and so on. */
  public int kind(int index) {
    return Byte.toUnsignedInt(messages.get(JAVA_BYTE, at(index) + UFFD_MSG_EVENT));
  }

  public boolean isPagefault(int index) {
    return kind(index) == UFFD_EVENT_PAGEFAULT;
  }

  /** Of a page fault: the address, see {@link UffdEvent.Pagefault}. */
  public long faultAddress(int index) {
    return messages.get(JAVA_LONG, at(index) + UFFD_MSG_ARG_PAGEFAULT_ADDRESS);
  }

  /** Of a page fault: {@code UFFD_PAGEFAULT_FLAG_*}. */
  public long faultFlags(int index) {
    return messages.get(JAVA_LONG, at(index) + UFFD_MSG_ARG_PAGEFAULT_FLAGS);
  }

  /** Of a page fault: the faulting thread, or 0. */
  public int threadId(int index) {
    return messages.get(JAVA_INT, at(index) + UFFD_MSG_ARG_PAGEFAULT_FEAT_PTID);
  }

  /**
   * The event as an object.
   *
   * @throws IllegalStateException for a kind that was not asked for at the creation, which the
   *     kernel never reports
   */
  public UffdEvent event(int index) {
    long at = at(index);
    int kind = kind(index);
    return switch (kind) {
      case UFFD_EVENT_PAGEFAULT ->
          new UffdEvent.Pagefault(faultAddress(index), faultFlags(index), threadId(index));
      case UFFD_EVENT_REMOVE ->
          new UffdEvent.Remove(
              messages.get(JAVA_LONG, at + UFFD_MSG_ARG_REMOVE_START),
              messages.get(JAVA_LONG, at + UFFD_MSG_ARG_REMOVE_END));
      case UFFD_EVENT_UNMAP ->
          new UffdEvent.Unmap(
              messages.get(JAVA_LONG, at + UFFD_MSG_ARG_REMOVE_START),
              messages.get(JAVA_LONG, at + UFFD_MSG_ARG_REMOVE_END));
      case UFFD_EVENT_REMAP ->
          new UffdEvent.Remap(
              messages.get(JAVA_LONG, at + UFFD_MSG_ARG_REMAP_FROM),
              messages.get(JAVA_LONG, at + UFFD_MSG_ARG_REMAP_TO),
              messages.get(JAVA_LONG, at + UFFD_MSG_ARG_REMAP_LEN));
      case UFFD_EVENT_FORK ->
          new UffdEvent.Fork(messages.get(JAVA_INT, at + UFFD_MSG_ARG_FORK_UFD));
      default ->
          throw new IllegalStateException("userfaultfd event 0x" + Integer.toHexString(kind));
    };
  }

  /** Where the kernel writes. */
  long address() {
    return messages.address();
  }

  long sizeBytes() {
    return messages.byteSize();
  }

  /** Takes note of what a read answered, bytes or a failure, and answers how many events came. */
  int filled(long answer) {
    count = (int) (Math.max(answer, 0) / UFFD_MSG_SIZEOF);
    return count;
  }

  private long at(int index) {
    Objects.checkIndex(index, count);
    return (long) index * UFFD_MSG_SIZEOF;
  }
}
