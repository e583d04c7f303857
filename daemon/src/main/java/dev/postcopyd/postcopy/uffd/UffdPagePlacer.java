package dev.postcopyd.postcopy.uffd;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.postcopy.PagePlacer;
import dev.postcopyd.postcopy.PlaceResult;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.uffd.UffdResult;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;

/**
 * Places pages by UFFDIO_COPY and UFFDIO_ZEROPAGE; hugetlb, which the kernel has no zero page for,
 * by copying zeros. The one place that gives meaning to what these calls answer.
 *
 * <p>Safe for any thread. Owns a page of zeros if the guest has huge pages ({@link #close}); owns
 * neither the userfaultfd nor the guest's memory.
 */
public final class UffdPagePlacer implements PagePlacer, AutoCloseable {
  private final Userfaultfd uffd;
  private final GuestRegions regions;
  private final PendingEvents pendingEvents;
  private final MemoryMapping zeros;

  public UffdPagePlacer(
      Userfaultfd uffd, RamBlockTable table, long[] baseAddresses, PendingEvents pendingEvents)
      throws IOException {
    this.uffd = uffd;
    this.regions = new GuestRegions(table, baseAddresses);
    this.pendingEvents = pendingEvents;
    long largestPage =
        table.blocks().stream().mapToLong(block -> block.hostPageSize().bytes()).max().orElse(0);
    // Never written: reading it takes the kernel's shared zero page, and no memory.
    this.zeros = MemoryMapping.anonymous(Math.max(largestPage, PageSize.SIZE_4K.bytes()));
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
    if (block.hostPageSize().shift() == PageSize.SIZE_4K.shift()) {
      return place(block, firstPageIndex, pageCount, 0);
    }
    for (int i = 0; i < pageCount; i++) {
      switch (place(block, firstPageIndex + i, 1, zeros.address())) {
        case PlaceResult.Placed _, PlaceResult.Withheld _ -> {}
        case PlaceResult.TargetGone _ -> {
          return new PlaceResult.TargetGone(i);
        }
        case PlaceResult.Refused refused -> {
          return new PlaceResult.Refused(i, refused.reason());
        }
      }
    }
    return PlaceResult.PLACED;
  }

  /** Places a run; a source address of 0 means zero pages. */
  private PlaceResult place(
      RamBlock block, long firstPageIndex, int pageCount, long sourceAddress) {
    PageSize pageSize = block.hostPageSize();
    long address = regions.addressOf(block, firstPageIndex);
    long lengthBytes = pageSize.offsetOf(pageCount);
    long done = 0;
    while (done < lengthBytes) {
      UffdResult result =
          sourceAddress == 0
              ? uffd.zeroPage(address + done, lengthBytes - done, 0)
              : uffd.copy(address + done, sourceAddress + done, lengthBytes - done, 0);
      if (result instanceof UffdResult.Done) {
        return PlaceResult.PLACED; // before the switch, whose first use links a call site
      }
      switch (result) {
        case UffdResult.Done _ -> done = lengthBytes;
        case UffdResult.Partial partial -> done += partial.bytesDone();
        case UffdResult.Exists _ -> {
          // Somebody else put a page there; whoever sleeps on it was not woken by that.
          UffdResult _ = uffd.wake(address + done, pageSize.bytes());
          done += pageSize.bytes();
        }
        case UffdResult.Again _ -> {
          try {
            pendingEvents.awaitRead();
          } catch (IOException e) {
            return new PlaceResult.Refused(
                pages(pageSize, done), "events of the guest can't be read: " + e.getMessage());
          }
        }
        case UffdResult.TargetGone _ -> {
          return new PlaceResult.TargetGone(pages(pageSize, done));
        }
        case UffdResult.NoMemory _ -> {
          return new PlaceResult.Refused(
              pages(pageSize, done),
              outOfMemory(block, block.offsetOf(firstPageIndex + pages(pageSize, done))));
        }
        case UffdResult.SourceUnreadable _ ->
            throw new IllegalStateException(
                "a page's bytes are not at address 0x" + Long.toHexString(sourceAddress + done));
        case UffdResult.Failed failed ->
            throw new IllegalStateException(
                "userfaultfd refused a placement at 0x"
                    + Long.toHexString(address + done)
                    + ": "
                    + failed);
      }
    }
    return PlaceResult.PLACED;
  }

  private static String outOfMemory(RamBlock block, long offsetBytes) {
    return "out of memory: the kernel has no "
        + block.hostPageSize()
        + " page for offset "
        + offsetBytes
        + " of block "
        + block.name()
        + (block.hostPageSize().equals(PageSize.SIZE_4K)
            ? ": raise the memory limit of this process's control group, or free memory"
            : ": reserve more of them");
  }

  private static int pages(PageSize pageSize, long doneBytes) {
    return (int) pageSize.pagesIn(doneBytes);
  }

  @Override
  public void wake(RamBlock block, long pageIndex) {
    UffdResult _ = uffd.wake(regions.addressOf(block, pageIndex), block.hostPageSize().bytes());
  }

  @Override
  public void close() {
    zeros.close();
  }
}
