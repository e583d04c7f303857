package dev.postcopyd.outgoing.background;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.postcopy.ClaimBitmap;
import dev.postcopyd.uffd.RegisterMode;
import dev.postcopyd.uffd.UffdResult;
import dev.postcopyd.uffd.abi.UapiConstants;
import java.io.IOException;
import java.util.EnumSet;
import java.util.List;
import java.util.concurrent.atomic.LongAdder;

/**
 * The write protection of a guest's memory: registered, put up, lifted in runs, and taken down.
 *
 * <p>{@link #register} belongs to the snapshot's thread; all the rest is safe for any. What a call
 * of the kernel's answers is given its meaning here: an event that waits to be read is waited for,
 * everything else but success is an end of the snapshot. Owns nothing.
 */
final class WriteProtection {
  private final TrackedGuest guest;
  private final List<MemoryRange> ranges;
  private final MemoryRange[][] byBlock;
  private boolean registered;
  private final LongAdder protectedBytes = new LongAdder();

  WriteProtection(TrackedGuest guest) {
    this.guest = guest;
    this.ranges = guest.ranges();
    RamBlockTable table = guest.table();
    byBlock = new MemoryRange[table.blocks().size()][];
    for (RamBlock block : table.blocks()) {
      byBlock[block.index()] =
          ranges.stream()
              .filter(range -> range.block().index() == block.index())
              .toArray(MemoryRange[]::new);
    }
  }

  List<MemoryRange> ranges() {
    return ranges;
  }

  /** The range that holds a page, which there is for every page that was ever protected. */
  MemoryRange rangeOf(RamBlock block, long pageIndex) {
    for (MemoryRange range : byBlock[block.index()]) {
      if (pageIndex >= range.firstPageIndex() && pageIndex < range.endPageIndex()) {
        return range;
      }
    }
    throw new IllegalStateException("page " + pageIndex + " of " + block.name() + " is nowhere");
  }

  /**
   * Registers all memory. What is registered already stays protected as it is; what is not is
   * protected nowhere yet.
   *
   * @throws IOException if a part of it can't be; nothing is registered then
   */
  void register() throws IOException {
    try {
      for (MemoryRange range : ranges) {
        registerOne(range);
        registered = true;
      }
    } catch (IOException e) {
      takeDown();
      throw e;
    }
  }

  /** Memory is registered already, and protected as an earlier snapshot has left it. */
  void adopt() {
    registered = true;
  }

  /** Whether the guest has its memory where it had it when this was made. */
  boolean isInPlace() {
    try {
      guest.enter();
      guest.leave();
      return true;
    } catch (IOException e) {
      return false;
    }
  }

  private void registerOne(MemoryRange range) throws IOException {
    try {
      if (!guest
          .userfaultfd()
          .register(range.start(), range.lengthBytes(), EnumSet.of(RegisterMode.WP))
          .writeProtect()) {
        throw new IOException(
            incompatible(range, "the kernel cannot write-protect this kind of memory"));
      }
    } catch (ErrnoException e) {
      throw new IOException(
          incompatible(
              range,
              switch (e.errno()) {
                case Errno.EBUSY -> "it is registered with another userfaultfd";
                case Errno.EINVAL ->
                    "the kernel cannot write-protect this kind of memory, or it is no longer mapped";
                default -> String.valueOf(e.getMessage());
              }),
          e);
    }
  }

  private static String incompatible(MemoryRange range, String why) {
    return "Background-snapshot is not compatible with guest memory configuration: block "
        + range.block().name()
        + " ("
        + range.lengthBytes()
        + " bytes): "
        + why;
  }

  /** Protects pages of a range and gives them to the bitmap, so that they are saved. */
  void protect(MemoryRange range, long start, long end, ClaimBitmap pending) throws IOException {
    long first = range.pageIndexAt(start);
    pending.release(first, range.pageIndexAt(end) - first);
    change(range, start, end - start, UapiConstants.UFFDIO_WRITEPROTECT_MODE_WP);
    protectedBytes.add(end - start);
  }

  /** How much was protected, and so is saved. */
  long protectedBytes() {
    return protectedBytes.sum();
  }

  /** Lifts the protection of pages that are saved, and wakes whoever waits to write to them. */
  void lift(MemoryRange range, long firstPageIndex, long pageCount) throws IOException {
    change(
        range,
        range.addressOf(firstPageIndex),
        range.block().hostPageSize().offsetOf(pageCount),
        0);
  }

  /** Has whoever waits for a page look again. */
  void wake(MemoryRange range, long pageIndex) {
    UffdResult _ =
        guest.userfaultfd().wake(range.addressOf(pageIndex), range.block().hostPageSize().bytes());
  }

  private void change(MemoryRange range, long address, long lengthBytes, long mode)
      throws IOException {
    while (true) {
      UffdResult result = guest.userfaultfd().writeProtect(address, lengthBytes, mode);
      if (result instanceof UffdResult.Done) {
        return;
      }
      if (!(result instanceof UffdResult.Again)) {
        throw new IOException(
            result instanceof UffdResult.TargetGone gone && gone.processGone()
                ? "the guest's process has ended"
                : "UFFDIO_WRITEPROTECT of %d bytes at 0x%x of block %s: %s"
                    .formatted(lengthBytes, address, range.block().name(), result));
      }
      guest.events().awaitRead();
    }
  }

  /**
   * Ends the registration of all memory, and with it what is still protected; whoever waits goes
   * on. A range that is gone is no trouble.
   */
  synchronized void takeDown() {
    if (registered) {
      guest.endRegistration();
      registered = false;
    }
  }
}
