package dev.postcopyd.postcopy.uffd;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.UnreadablePage;
import dev.postcopyd.uffd.UffdEventBuffer;
import dev.postcopyd.uffd.UffdFeature;
import dev.postcopyd.uffd.UffdResult;
import dev.postcopyd.uffd.Userfaultfd;
import dev.postcopyd.uffd.abi.UapiConstants;

/**
 * The memory of a guest that has handed its userfaultfd over: where its pages are, what has become
 * of them, and what its events change about both. Shared by the guest's fault source and its
 * placer.
 *
 * <p>Events are applied by one thread, the reader of the userfaultfd, while the gate is closed;
 * everything else may be called from any thread. Owns nothing.
 */
public final class HandedOverMemory {
  private static final long LIFTED_PAGES = 8192;

  private static final long SMALL_PAGE = 4096;

  /** An address of the guest's where hardly anything is; the kernel refuses lower ones outright. */
  private static final long NOWHERE = 1 << 20;

  private final Userfaultfd uffd;
  private final RamBlockTable table;
  private final PageMarks marks;
  private final UffdEventBuffer events;
  private final SegmentJournal journal;
  private final PlacementGate gate = new PlacementGate();
  private final boolean eventful;
  private volatile GuestSegments segments;

  /**
   * A guest's memory.
   *
   * @param events where the userfaultfd's events are read into: what is in there when this process
   *     ends is the next one's to deal with
   */
  public HandedOverMemory(
      Userfaultfd uffd,
      RamBlockTable table,
      GuestSegments segments,
      PageMarks marks,
      UffdEventBuffer events,
      SegmentJournal journal) {
    this.uffd = uffd;
    this.table = table;
    this.segments = segments;
    this.marks = marks;
    this.events = events;
    this.journal = journal;
    this.eventful =
        uffd.features().contains(UffdFeature.EVENT_REMOVE)
            || uffd.features().contains(UffdFeature.EVENT_UNMAP)
            || uffd.features().contains(UffdFeature.EVENT_REMAP)
            || uffd.features().contains(UffdFeature.EVENT_FORK);
  }

  public Userfaultfd userfaultfd() {
    return uffd;
  }

  public RamBlockTable table() {
    return table;
  }

  public PageMarks marks() {
    return marks;
  }

  public GuestSegments segments() {
    return segments;
  }

  UffdEventBuffer events() {
    return events;
  }

  PlacementGate gate() {
    return gate;
  }

  /** No event is read from now on until {@link #leave}, which has to come within microseconds. */
  public void enter() {
    gate.enter();
  }

  public void leave() {
    gate.leave();
  }

  /** Whether anything but faults can come, so that the gate is needed. */
  boolean isEventful() {
    return eventful;
  }

  /** Applies what an earlier process has read and not dealt with; nothing is served yet. */
  public void applyLeftEvents(GuestChanges changes) {
    int count = events.takeAll();
    for (int i = 0; i < count; i++) {
      if (events.kind(i) != 0 && !events.isPagefault(i)) {
        if (events.kind(i) != UapiConstants.UFFD_EVENT_FORK) {
          apply(i, changes);
        }
        events.forget(i);
      }
    }
  }

  /** Applies an event of the buffer that is no fault; the gate is closed. */
  void apply(int index, GuestChanges changes) {
    switch (events.kind(index)) {
      case UapiConstants.UFFD_EVENT_REMOVE ->
          remove(events.argument(index, 0), events.argument(index, 1), changes);
      case UapiConstants.UFFD_EVENT_UNMAP ->
          unmap(events.argument(index, 0), events.argument(index, 1), changes);
      case UapiConstants.UFFD_EVENT_REMAP ->
          remap(
              events.argument(index, 0),
              events.argument(index, 1),
              events.argument(index, 2),
              changes);
      case UapiConstants.UFFD_EVENT_FORK -> changes.forked((int) events.argument(index, 0));
      default ->
          changes.misbehaved(
              "unknown userfaultfd event 0x" + Integer.toHexString(events.kind(index)));
    }
  }

  private void remove(long start, long end, GuestChanges changes) {
    for (GuestSegments.Segment part : segments.within(start, end)) {
      RamBlock block = part.block();
      if (!block.hostPageSize().isAligned(part.start() - addressOfBlock(part))
          || !block.hostPageSize().isAligned(part.end() - part.start())) {
        changes.misbehaved(
            "a part of a page of %s was given back: its page_size is wrong"
                .formatted(block.hostPageSize()));
        return;
      }
      drop(part, changes);
    }
    wakeRange(start, end);
  }

  /** Where the segment's block would begin; only its place within a page matters. */
  private long addressOfBlock(GuestSegments.Segment part) {
    GuestSegments.Segment whole = segments.holding(part.block(), part.firstPageIndex());
    return whole == null ? part.start() : whole.start();
  }

  private void unmap(long start, long end, GuestChanges changes) {
    for (GuestSegments.Segment part : segments.within(start, end)) {
      drop(part, changes);
    }
    change(segments.without(start, end), changes);
    wakeRange(start, end);
  }

  private void remap(long from, long to, long lengthBytes, GuestChanges changes) {
    for (GuestSegments.Segment covered : segments.within(to, to + lengthBytes)) {
      drop(covered, changes);
    }
    change(segments.moved(from, to, lengthBytes), changes);
    wakeRange(from, from + lengthBytes);
  }

  private void drop(GuestSegments.Segment part, GuestChanges changes) {
    long count = part.endPageIndex() - part.firstPageIndex();
    marks.markRemoved(part.firstPageIndex(), count);
    changes.dropped(part.block(), part.firstPageIndex(), count);
  }

  private void change(GuestSegments changed, GuestChanges changes) {
    if (changed.all().equals(segments.all())) {
      // Whoever saves the guest takes another object for another place.
      return;
    }
    segments = changed;
    if (!journal.write(changed)) {
      changes.misbehaved(
          "its memory is in more than %d pieces".formatted(changed.all().size() - 1));
    }
  }

  /** Whoever waits there looks again: its page is zero now, or elsewhere, or nowhere. */
  private void wakeRange(long start, long end) {
    UffdResult _ = uffd.wake(start, end - start);
  }

  /** Wakes whoever waits anywhere, so that faults that were read and not answered come again. */
  public void wakeAll() {
    for (GuestSegments.Segment segment : segments.all()) {
      wakeRange(segment.start(), segment.end());
    }
  }

  /** Whether the guest's process, and so its address space, is gone. */
  public boolean isProcessGone() {
    for (GuestSegments.Segment segment : segments.all()) {
      return probe(segment.start(), segment.block().hostPageSize().bytes()) == -Errno.ESRCH;
    }
    return probe(NOWHERE, 4096) == -Errno.ESRCH;
  }

  /** Asks the kernel about a range without changing it: by a copy of what can't be read. */
  private static UffdResult ask(Userfaultfd uffd, long address, long lengthBytes) {
    return uffd.copy(address, UnreadablePage.address(), lengthBytes, 0);
  }

  private long probe(long address, long lengthBytes) {
    return switch (ask(uffd, address, lengthBytes)) {
      case UffdResult.TargetGone gone -> -gone.errno();
      case UffdResult.Failed failed -> -failed.errno();
      default -> 0;
    };
  }

  /**
   * Whether a range is registered with the userfaultfd, in pages that it can be filled in.
   *
   * @return 0, or the errno: ENOENT not mapped or not registered, EINVAL other pages, ESRCH no
   *     process, EAGAIN not to be told before an event has been read
   */
  public static int checkRegistered(
      Userfaultfd uffd, long address, long lengthBytes, long pageSizeBytes) {
    int errno = checkWhole(uffd, address, lengthBytes, pageSizeBytes);
    // Huge pages are not filled in part; what can be is none.
    if (errno != 0 || pageSizeBytes <= SMALL_PAGE) {
      return errno;
    }
    return switch (ask(uffd, address, SMALL_PAGE)) {
      case UffdResult.Failed _ -> 0;
      case UffdResult.Again _ -> Errno.EAGAIN;
      default -> Errno.EINVAL;
    };
  }

  private static int checkWhole(
      Userfaultfd uffd, long address, long lengthBytes, long pageSizeBytes) {
    return switch (ask(uffd, address, lengthBytes)) {
      case UffdResult.Again _ -> Errno.EAGAIN;
      case UffdResult.Failed failed -> failed.errno();
      case UffdResult.TargetGone gone when gone.processGone() -> gone.errno();
      case UffdResult.TargetGone gone -> {
        if (lengthBytes <= pageSizeBytes) {
          yield gone.errno();
        }
        // It may be several mappings, one behind the other.
        long half = Math.max(pageSizeBytes, (lengthBytes / 2) & -pageSizeBytes);
        int lower = checkRegistered(uffd, address, half, pageSizeBytes);
        yield lower != 0
            ? lower
            : checkRegistered(uffd, address + half, lengthBytes - half, pageSizeBytes);
      }
      default -> 0;
    };
  }

  /**
   * Lifts the write protection of a page where it is now, if it is anywhere, and the kernel can.
   */
  public void liftProtection(RamBlock block, long pageIndex) {
    GuestSegments.Segment now = segments.holding(block, pageIndex);
    if (now != null) {
      UffdResult _ = uffd.writeProtect(now.addressOf(pageIndex), block.hostPageSize().bytes(), 0);
    }
  }

  /**
   * Ends the registration of all of it, wherever it is now: what is missing then reads as zero,
   * what was protected can be written to, and whoever waits goes on.
   *
   * @return false if a part of it could not be unregistered
   */
  public boolean unregister() {
    boolean all = true;
    for (GuestSegments.Segment segment : segments.all()) {
      all &=
          uffd.endRegistration(
              segment.start(),
              segment.end() - segment.start(),
              segment.block().hostPageSize().offsetOf(LIFTED_PAGES));
    }
    return all;
  }
}
