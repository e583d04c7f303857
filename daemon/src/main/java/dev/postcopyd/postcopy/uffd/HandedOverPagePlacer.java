package dev.postcopyd.postcopy.uffd;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.PagePlacer;
import dev.postcopyd.postcopy.PlaceResult;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.uffd.UffdResult;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.List;

/**
 * Places pages into a guest that has handed its userfaultfd over, by UFFDIO_COPY, ZEROPAGE and
 * CONTINUE.
 *
 * <p>A page that the guest has given back is never placed from the snapshot: whoever places looks
 * at its mark and makes the call inside the gate, piece by piece, so that the reader of events
 * never waits long. The reader itself needs no gate, because it does one thing at a time.
 *
 * <p>Pages that are there already stay as they are: somebody else put them there, or an earlier
 * daemon that did not live to mark them. The exception is shared memory whose file was handed over
 * too: a page of the file that nobody has placed is stale by agreement, and is overwritten and then
 * shown by CONTINUE, unless an earlier daemon has begun to place it or a forked process shares it.
 *
 * <p>Safe for any thread. Owns a page of zeros ({@link #close}); not the files.
 */
public final class HandedOverPagePlacer implements PagePlacer, AutoCloseable {
  /** Placed at a time beside the reader of events: about 8 µs. */
  private static final long PIECE_BYTES = 32 << 10;

  /**
   * The kernel takes no page while an event is unread, or its cause has not gone on: threads that
   * give pages back without a pause keep every page away.
   */
  private static final long READER_PATIENCE_NANOS = 2_000_000_000L;

  private static final long PATIENCE_NANOS = 3_000_000_000L;
  private static final String RESTLESS =
      "its threads change its memory without a pause, so that the kernel has taken no page for seconds";

  // What a piece answers besides a number of pages; errors beyond are negative errnos.
  private static final int AGAIN = 0;
  private static final int SKIPPED = 1 << 30;
  private static final int FILE_ERROR = -10_000;

  private final HandedOverMemory memory;
  private final Userfaultfd uffd;
  private final PageMarks marks;
  private final HandedOverFaultSource source;
  private final List<NativeFile> files;
  private final MemoryMapping zeros;
  private final long[] begunBefore;
  private volatile boolean filesAreOurs = true;

  /**
   * A placer.
   *
   * @param files the file behind each block, by block index; empty if none was handed over
   */
  public HandedOverPagePlacer(
      HandedOverMemory memory, HandedOverFaultSource source, List<NativeFile> files)
      throws IOException {
    this.memory = memory;
    this.uffd = memory.userfaultfd();
    this.marks = memory.marks();
    this.source = source;
    this.files = List.copyOf(files);
    this.begunBefore = marks.begunAndNotReceived();
    long largestPage =
        memory.table().blocks().stream()
            .mapToLong(block -> block.hostPageSize().bytes())
            .max()
            .orElse(PageSize.SIZE_4K.bytes());
    // Never written: reading it takes the kernel's shared zero page, and no memory.
    this.zeros = MemoryMapping.anonymous(largestPage);
  }

  /** From now on another process writes to the files, too: what is in them is not stale. */
  public void shareFiles() {
    filesAreOurs = false;
  }

  @Override
  public void prepareThread() {
    Userfaultfd.prepareThread();
  }

  @Override
  public PlaceResult placeData(
      RamBlock block, long firstPageIndex, int pageCount, long sourceAddress, Urgency urgency) {
    return place(block, firstPageIndex, pageCount, sourceAddress);
  }

  @Override
  public PlaceResult placeZero(
      RamBlock block, long firstPageIndex, int pageCount, Urgency urgency) {
    return place(block, firstPageIndex, pageCount, 0);
  }

  /** Places a run; a source address of 0 means zero pages. */
  private PlaceResult place(
      RamBlock block, long firstPageIndex, int pageCount, long sourceAddress) {
    boolean reader = source.isServing();
    PageSize size = block.hostPageSize();
    int most = reader ? pageCount : (int) Math.max(1, size.pagesIn(PIECE_BYTES));
    boolean skipped = false;
    long againSinceNanos = 0;
    int done = 0;
    while (done < pageCount) {
      long page = firstPageIndex + done;
      long from = sourceAddress == 0 ? 0 : sourceAddress + size.offsetOf(done);
      int limit = Math.min(most, pageCount - done);
      int placed;
      if (reader) {
        placed = placePiece(block, page, limit, from);
      } else {
        memory.gate().enter();
        try {
          placed = placePiece(block, page, limit, from);
        } finally {
          memory.gate().leave();
        }
      }
      if (placed < 0) {
        return trouble(block, page, done, placed);
      }
      if (placed == AGAIN) {
        long nowNanos = System.nanoTime();
        againSinceNanos = againSinceNanos == 0 ? nowNanos : againSinceNanos;
        if (nowNanos - againSinceNanos > (reader ? READER_PATIENCE_NANOS : PATIENCE_NANOS)) {
          return new PlaceResult.Refused(done, RESTLESS);
        }
        try {
          source.awaitRead();
        } catch (IOException e) {
          return new PlaceResult.Refused(
              done, "events of the guest can't be read: " + e.getMessage());
        }
      } else {
        againSinceNanos = 0;
      }
      skipped |= (placed & SKIPPED) != 0;
      done += placed & ~SKIPPED;
    }
    return skipped ? PlaceResult.WITHHELD : PlaceResult.PLACED;
  }

  private PlaceResult trouble(RamBlock block, long page, int done, int code) {
    String where =
        "offset %d of block %s of the guest".formatted(block.offsetOf(page), block.name());
    if (code <= FILE_ERROR) {
      return new PlaceResult.Refused(
          done,
          "the memory file of the guest can't be written at %s: %s"
              .formatted(where, Errno.describe(FILE_ERROR - code)));
    }
    return switch (-code) {
      case Errno.ESRCH -> new PlaceResult.TargetGone(done);
      case Errno.ENOMEM ->
          new PlaceResult.Refused(
              done,
              "out of memory: the kernel has no %s page for %s: raise the memory limit of its control group, or %s"
                  .formatted(
                      block.hostPageSize(),
                      where,
                      isHuge(block) ? "reserve more of them" : "free memory"));
      default ->
          new PlaceResult.Refused(
              done,
              "%s can't be filled with pages of %s: %s"
                  .formatted(where, block.hostPageSize(), Errno.describe(-code)));
    };
  }

  private static boolean isHuge(RamBlock block) {
    return block.hostPageSize().shift() != PageSize.SIZE_4K.shift();
  }

  /**
   * Places the first part of a run that can be placed by one call.
   *
   * @return how many pages are dealt with, with {@link #SKIPPED} if nothing was put there; {@link
   *     #AGAIN}; or a negative code
   */
  private int placePiece(RamBlock block, long page, int limit, long from) {
    int count = marks.runOfRemoved(page, limit);
    if (marks.isRemoved(page)) {
      marks.markReceived(page, count);
      return count | SKIPPED;
    }
    GuestSegments.Segment segment = memory.segments().holding(block, page);
    if (segment == null || page < segment.firstPageIndex()) {
      // Unmapped, and so removed; the mark is made first, so this is for safety only.
      return SKIPPED
          | (segment == null ? count : (int) Math.min(count, segment.firstPageIndex() - page));
    }
    count = (int) Math.min(count, segment.endPageIndex() - page);
    boolean huge = isHuge(block);
    if (from == 0 && huge) {
      count = 1;
    }
    if (huge || !files.isEmpty()) {
      marks.markBegun(page, count);
    }
    long address = segment.addressOf(page);
    UffdResult result = call(address, from, block.hostPageSize().offsetOf(count), huge);
    if (result instanceof UffdResult.Done) {
      marks.markReceived(page, count);
      return count; // before the switch, whose first use links a call site
    }
    return switch (result) {
      case UffdResult.Done _ -> count;
      case UffdResult.Partial partial -> {
        int placed = (int) block.hostPageSize().pagesIn(partial.bytesDone());
        marks.markReceived(page, placed);
        yield placed;
      }
      case UffdResult.Exists _ -> placeExisting(block, page, address, from);
      case UffdResult.Again _ -> AGAIN;
      case UffdResult.TargetGone gone when gone.processGone() -> -Errno.ESRCH;
      case UffdResult.TargetGone _ -> {
        if (count > 1) {
          yield placePiece(block, page, count / 2, from);
        }
        // Unmapped without an event, because the guest did not ask for any.
        marks.markRemoved(page, 1);
        yield 1 | SKIPPED;
      }
      case UffdResult.NoMemory _ -> -Errno.ENOMEM;
      case UffdResult.SourceUnreadable _ ->
          throw new IllegalStateException(
              "a page's bytes are not at address 0x" + Long.toHexString(from));
      case UffdResult.Failed failed -> -failed.errno();
    };
  }

  private UffdResult call(long address, long from, long lengthBytes, boolean huge) {
    if (from != 0) {
      return uffd.copy(address, from, lengthBytes, 0);
    }
    return huge
        ? uffd.copy(address, zeros.address(), lengthBytes, 0)
        : uffd.zeroPage(address, lengthBytes, 0);
  }

  /** There is a page already: of the guest's, or in the file behind it. */
  private int placeExisting(RamBlock block, long page, long address, long from) {
    long lengthBytes = block.hostPageSize().bytes();
    boolean begun = (begunBefore[(int) (page >>> 6)] & (1L << page)) != 0;
    if (files.isEmpty()) {
      if (!begun && isHuge(block) && !isInPageCache(address, lengthBytes)) {
        return -Errno.ENOMEM;
      }
      UffdResult _ = uffd.wake(address, lengthBytes);
      marks.markReceived(page, 1);
      return 1;
    }
    if (filesAreOurs && !begun) {
      try {
        files
            .get(block.index())
            .writeFullyAt(from == 0 ? zeros.address() : from, lengthBytes, block.offsetOf(page));
      } catch (IOException e) {
        return FILE_ERROR - (e instanceof ErrnoException errno ? errno.errno() : Errno.EIO);
      }
    }
    UffdResult result = uffd.continuePages(address, lengthBytes, 0);
    if (result instanceof UffdResult.Again) {
      return AGAIN;
    }
    if (!(result instanceof UffdResult.Done)) {
      UffdResult _ = uffd.wake(address, lengthBytes);
    }
    marks.markReceived(page, 1);
    return 1;
  }

  /**
   * Whether shared huge pages are there. Of huge pages the kernel says EEXIST also when it has none
   * to give (hugetlb_mfill_atomic_pte, Linux 6.18), and private ones can't be told apart then; one
   * that was never begun can hardly be there, and to take it for present would be wrong memory.
   */
  private boolean isInPageCache(long address, long lengthBytes) {
    UffdResult shown = uffd.continuePages(address, lengthBytes, 0);
    return shown instanceof UffdResult.Done || shown instanceof UffdResult.Exists;
  }

  /**
   * Resolves a fault on a page that counts as received. If it is missing all the same the guest has
   * given it back, told or not: then it is zero.
   */
  @Override
  public void wake(RamBlock block, long pageIndex) {
    boolean reader = source.isServing();
    while (true) {
      boolean again;
      if (reader) {
        again = !resolveReceived(block, pageIndex);
      } else {
        memory.gate().enter();
        try {
          again = !resolveReceived(block, pageIndex);
        } finally {
          memory.gate().leave();
        }
      }
      if (!again) {
        return;
      }
      try {
        source.awaitRead();
      } catch (IOException e) {
        return; // the reader meets it too, and says so
      }
    }
  }

  /** False if events have to be read first. */
  private boolean resolveReceived(RamBlock block, long page) {
    GuestSegments.Segment segment = memory.segments().holding(block, page);
    if (segment == null || page < segment.firstPageIndex()) {
      return true;
    }
    long address = segment.addressOf(page);
    long lengthBytes = block.hostPageSize().bytes();
    if (!files.isEmpty()) {
      UffdResult shown = uffd.continuePages(address, lengthBytes, 0);
      if (shown instanceof UffdResult.Done) {
        return true;
      }
      if (shown instanceof UffdResult.Again) {
        return false;
      }
    }
    UffdResult result = call(address, 0, lengthBytes, isHuge(block));
    if (result instanceof UffdResult.Again) {
      return false;
    }
    if (!(result instanceof UffdResult.Done)) {
      UffdResult _ = uffd.wake(address, lengthBytes);
    }
    return true;
  }

  @Override
  public void close() {
    zeros.close();
  }
}
