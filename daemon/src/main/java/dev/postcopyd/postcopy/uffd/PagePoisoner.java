package dev.postcopyd.postcopy.uffd;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.uffd.UffdResult;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;

/**
 * Makes pages of a handed-over guest that can't be had raise SIGBUS (UFFDIO_POISON, Linux 6.6): in
 * place of a wait without end, or of zeros when the userfaultfd is closed. A poisoned page still
 * counts as missing, and a placement that comes all the same puts good contents in its place.
 *
 * <p>Safe for any thread. Owns nothing.
 */
public final class PagePoisoner {
  /** As long as events may keep the kernel from doing it. */
  private static final long PATIENCE_NANOS = 2_000_000_000L;

  private final HandedOverMemory memory;
  private final Userfaultfd uffd;
  private final PageMarks marks;
  private final HandedOverFaultSource source;

  public PagePoisoner(HandedOverMemory memory, HandedOverFaultSource source) {
    this.memory = memory;
    this.uffd = memory.userfaultfd();
    this.marks = memory.marks();
    this.source = source;
  }

  /**
   * Makes a page that can't be had raise SIGBUS, and whoever waits for it with it.
   *
   * @return false if the kernel can't
   */
  public boolean poison(RamBlock block, long pageIndex) {
    long endNanos = System.nanoTime() + PATIENCE_NANOS;
    while (System.nanoTime() < endNanos) {
      GuestSegments.Segment segment = memory.segments().holding(block, pageIndex);
      if (segment == null || pageIndex < segment.firstPageIndex()) {
        return true;
      }
      long address = segment.addressOf(pageIndex);
      long lengthBytes = block.hostPageSize().bytes();
      UffdResult result = uffd.poison(address, lengthBytes, 0);
      if (result instanceof UffdResult.Again) {
        try {
          source.awaitRead();
        } catch (IOException e) {
          return false;
        }
        continue;
      }
      if (result instanceof UffdResult.Exists) {
        UffdResult _ = uffd.wake(address, lengthBytes);
      }
      return !(result instanceof UffdResult.Failed);
    }
    return false;
  }

  /**
   * Makes every page that has not come raise SIGBUS, by the fewest calls.
   *
   * @return false if the kernel can't
   */
  public boolean poisonMissing() {
    for (GuestSegments.Segment segment : memory.segments().all()) {
      long page = segment.firstPageIndex();
      while (page < segment.endPageIndex()) {
        long run = marks.runOfDone(page, segment.endPageIndex() - page);
        if (!marks.isDone(page) && !poisonRun(segment, page, run)) {
          return false;
        }
        page += run;
      }
    }
    return true;
  }

  private boolean poisonRun(GuestSegments.Segment segment, long firstPage, long pageCount) {
    PageSize size = segment.block().hostPageSize();
    long endNanos = System.nanoTime() + PATIENCE_NANOS;
    long done = 0;
    while (done < pageCount) {
      long left = size.offsetOf(pageCount - done);
      UffdResult result = uffd.poison(segment.addressOf(firstPage + done), left, 0);
      switch (result) {
        case UffdResult.Done _ -> done = pageCount;
        case UffdResult.Partial partial -> done += size.pagesIn(partial.bytesDone());
        case UffdResult.Exists _ -> {
          UffdResult _ = uffd.wake(segment.addressOf(firstPage + done), size.bytes());
          done++;
        }
        case UffdResult.Again _ -> {
          if (System.nanoTime() > endNanos) {
            return false;
          }
          try {
            source.awaitRead();
          } catch (IOException e) {
            return false;
          }
        }
        case UffdResult.TargetGone gone -> done = gone.processGone() ? pageCount : done + 1;
        case UffdResult.NoMemory _, UffdResult.SourceUnreadable _, UffdResult.Failed _ -> {
          return false;
        }
      }
    }
    return true;
  }
}
