package dev.postcopyd.postcopy.network;

import dev.postcopyd.page.PageSet;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.XbzrleDelta;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Memory of the daemon's own that a source fills before its guest is switched over: any page may
 * come any number of times, and the last one counts. Nobody runs in it, and nothing of it is armed
 * for faults.
 *
 * <p>If faults are to be served later, what has come is present and what has not is missing, page
 * by page: so there are no transparent huge pages, and zero pages are mapped.
 *
 * <p>Used by the threads of all channels; neighbouring rounds of a page are kept apart by the
 * barriers of the stream. Does not own the memory. Allocates nothing per page but for deltas'
 * threads, once.
 */
public final class PrecopyMemory implements ArrivingPages {
  private static final int PAGE_BYTES = (int) StreamFormat.TARGET_PAGE_SIZE.bytes();

  private final Arrivals arrivals;
  private final List<MemoryMapping> memory;
  private final boolean faultsLater;
  private final PageSet written;
  private volatile @Nullable PageSet kept;
  private final ThreadLocal<Stage> stages = ThreadLocal.withInitial(Stage::new);

  /** Where a thread puts a page together. */
  private static final class Stage {
    final ByteBuffer bytes = ByteBuffer.allocateDirect(PAGE_BYTES);
    final long address = MemorySegment.ofBuffer(bytes).address();
  }

  /**
   * @param memory a block's each, fresh
   * @param faultsLater whether the guest may be switched over before all has come
   */
  public PrecopyMemory(Arrivals arrivals, List<MemoryMapping> memory, boolean faultsLater)
      throws IOException {
    this.arrivals = arrivals;
    this.memory = List.copyOf(memory);
    this.faultsLater = faultsLater;
    this.written = new PageSet(arrivals.table());
    if (faultsLater) {
      for (MemoryMapping mapping : memory) {
        mapping.forbidHugePages();
      }
    }
  }

  /** Nothing comes here any more: what has come is handed on from here. */
  public void freeze() {
    kept = new PageSet(arrivals.pages());
  }

  /** Whether a page had come when this memory was frozen. */
  boolean has(long pageIndex) {
    PageSet of = kept;
    return of != null && of.contains(pageIndex);
  }

  /** Where a page is, in this memory. */
  long addressOf(RamBlock block, long pageIndex) {
    return memory.get(block.index()).address() + block.offsetOf(pageIndex);
  }

  /** Whether a page that has come holds data, and not only zeros. */
  boolean holdsData(long pageIndex) {
    return written.contains(pageIndex);
  }

  @Override
  public void data(RamBlock block, long offsetBytes, int pageCount, long address, int strideBytes)
      throws IOException {
    arrivals.requireRoom(written.count());
    long to = memory.get(block.index()).address() + offsetBytes;
    long page = block.pageIndexAt(offsetBytes);
    if (strideBytes == PAGE_BYTES) {
      GuestMemoryAccess.copy(to, address, (long) pageCount * PAGE_BYTES);
    } else {
      for (int i = 0; i < pageCount; i++) {
        GuestMemoryAccess.copy(
            to + (long) i * PAGE_BYTES, address + (long) i * strideBytes, PAGE_BYTES);
      }
    }
    written.add(page, pageCount);
    arrivals.pages().add(page, pageCount);
    arrivals.countData(pageCount);
  }

  @Override
  public void zero(RamBlock block, long offsetBytes, int pageCount) throws IOException {
    long page = block.pageIndexAt(offsetBytes);
    long end = page + pageCount;
    if (written.next(page, end) >= 0) {
      advised(memory.get(block.index()).dontNeed(offsetBytes, (long) pageCount * PAGE_BYTES));
      written.remove(page, pageCount);
    }
    if (faultsLater) {
      advised(memory.get(block.index()).populateRead(offsetBytes, (long) pageCount * PAGE_BYTES));
    }
    arrivals.pages().add(page, pageCount);
    arrivals.countZero(pageCount);
  }

  @Override
  public void delta(
      RamBlock block, long offsetBytes, ByteBuffer bytes, int position, int lengthBytes)
      throws IOException {
    long page = block.pageIndexAt(offsetBytes);
    if (!arrivals.pages().contains(page)) {
      throw new IOException(
          "an xbzrle delta of the page at offset %d of block '%s', which has not come"
              .formatted(offsetBytes, block.name()));
    }
    Stage stage = stages.get();
    long pageAddress = addressOf(block, page);
    GuestMemoryAccess.copy(stage.address, pageAddress, PAGE_BYTES);
    if (!XbzrleDelta.apply(bytes, position, lengthBytes, stage.bytes)) {
      throw new IOException(
          "the xbzrle delta of the page at offset %d of block '%s' is malformed"
              .formatted(offsetBytes, block.name()));
    }
    GuestMemoryAccess.copy(pageAddress, stage.address, PAGE_BYTES);
    written.add(page, 1);
    arrivals.countData(1);
  }

  /** Pages are out of date: they are missing again. */
  public void discard(RamBlock block, long offsetBytes, long lengthBytes) throws IOException {
    advised(memory.get(block.index()).dontNeed(offsetBytes, lengthBytes));
    long page = block.pageIndexAt(offsetBytes);
    long count = StreamFormat.TARGET_PAGE_SIZE.pagesIn(lengthBytes);
    arrivals.pages().remove(page, count);
    written.remove(page, count);
  }

  /** Tells the engine, before any fault, what is in this memory, which is the guest's. */
  public void tell(PostcopyEngine engine) {
    arrivals.switchedOver(written.count());
    PageSet pages = arrivals.pages();
    for (RamBlock block : arrivals.table().blocks()) {
      long page = pages.next(block.firstPageIndex(), block.endPageIndex());
      while (page >= 0) {
        long end = pages.nextMissing(page, block.endPageIndex());
        long next = end < 0 ? block.endPageIndex() : end;
        boolean _ = engine.alreadyReceived(block, page, (int) (next - page), true);
        page = pages.next(next, block.endPageIndex());
      }
    }
  }

  private static void advised(int errno) throws IOException {
    if (errno != 0) {
      throw new IOException("madvise of the guest's memory: " + Errno.describe(errno));
    }
  }
}
