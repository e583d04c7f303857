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

import dev.postcopyd.posix.MemoryMapping;
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

  private UffdEventBuffer(MemorySegment messages) {
    this.capacity = (int) (messages.byteSize() / UFFD_MSG_SIZEOF);
    this.messages = messages;
  }

  /**
   * Room in memory of the caller's, such as a mapping that outlives this process: an event that was
   * read and not dealt with is then still there for whoever comes after, see {@link #takeAll} and
   * {@link #forget}.
   */
  public static UffdEventBuffer in(MemoryMapping mapping, long offsetBytes, int capacity) {
    return new UffdEventBuffer(
        mapping.asSegment().asSlice(offsetBytes, (long) capacity * UFFD_MSG_SIZEOF, Long.BYTES));
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

  /**
   * One of the three arguments of an event that is no page fault, as {@code uffd_msg.arg} has them:
   * start and end of REMOVE and UNMAP; from, to and length of REMAP; the descriptor of FORK.
   */
  public long argument(int index, int number) {
    return messages.get(
        JAVA_LONG,
        at(index) + UFFD_MSG_ARG_REMOVE_START + (long) Objects.checkIndex(number, 3) * 8);
  }

  /** Looks at all the room there is, whatever was read; what was never written is of kind 0. */
  public int takeAll() {
    count = capacity;
    return count;
  }

  /** Marks an event as dealt with: its kind is 0 from now on. */
  public void forget(int index) {
    messages.set(JAVA_BYTE, at(index) + UFFD_MSG_EVENT, (byte) 0);
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
