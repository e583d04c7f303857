package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlock;
import java.util.List;

/**
 * Where the loaders are: hands out runs of pages that nobody has claimed, in order, and jumps to
 * where the guest faulted last, since what lies around a fault is wanted next.
 *
 * <p>Shared by all loader threads of one load; a run is claimed under the lock, which is held for
 * microseconds and never while anything is fetched. Each thread keeps to an area of its own until
 * that is done, because the kernel has one lock for the page table entries of 2 MiB: two threads
 * that took every other run would wait for each other there.
 */
final class ClaimCursor {
  /** What one page of page table entries maps, on x86-64 and on aarch64 with 4 KiB pages. */
  private static final long AREA_BYTES = 2 << 20;

  private final PostcopyEngine engine;
  private final List<RamBlock> blocks;
  private final long runBytes;
  private int blockIndex;
  private long pageIndex;
  private int blocksWithoutWork;

  /**
   * @param runBytes the most bytes in a run; at least one page is handed out in any case
   */
  ClaimCursor(PostcopyEngine engine, long runBytes) {
    this.engine = engine;
    this.blocks = engine.table().blocks();
    this.runBytes = runBytes;
  }

  /** A claimed run; filled in by {@link #claimNext}, one object for each loader thread. */
  static final class Run {
    RamBlock block;
    long firstPageIndex;
    int pageCount;
    private long areaEndPageIndex;

    Run(RamBlock anyBlock) {
      this.block = anyBlock;
    }
  }

  /** Claims the next run; false when no page is left that nobody has claimed. */
  synchronized boolean claimNext(Run run) {
    if (blocks.isEmpty()) {
      return false;
    }
    if (!followFaults() && claimInArea(run)) {
      return true;
    }
    while (blocksWithoutWork <= blocks.size()) {
      RamBlock block = blocks.get(blockIndex);
      long from = Math.max(pageIndex, block.firstPageIndex());
      long first = engine.claims().nextUnclaimed(from, block.endPageIndex());
      if (first < 0) {
        blockIndex = (blockIndex + 1) % blocks.size();
        pageIndex = blocks.get(blockIndex).firstPageIndex();
        blocksWithoutWork++;
        continue;
      }
      pageIndex = areaEnd(block, first);
      if (claim(run, block, first)) {
        blocksWithoutWork = 0;
        run.areaEndPageIndex = pageIndex;
        return true;
      }
      pageIndex = first;
    }
    return false;
  }

  /** Goes on in the area that the thread has begun. */
  private boolean claimInArea(Run run) {
    long from = run.firstPageIndex + run.pageCount;
    while (from < run.areaEndPageIndex) {
      long first = engine.claims().nextUnclaimed(from, run.areaEndPageIndex);
      if (first < 0) {
        return false;
      }
      if (claim(run, run.block, first)) {
        return true;
      }
      from = first;
    }
    return false;
  }

  private boolean claim(Run run, RamBlock block, long first) {
    int pageCount = engine.claims().tryClaimRun(first, limit(block, first));
    if (pageCount == 0) {
      return false; // a fault was quicker
    }
    run.block = block;
    run.firstPageIndex = first;
    run.pageCount = pageCount;
    return true;
  }

  private static long areaEnd(RamBlock block, long pageIndex) {
    long areaPages = Math.max(1, block.hostPageSize().pagesIn(AREA_BYTES));
    long intoArea = (pageIndex - block.firstPageIndex()) % areaPages;
    return Math.min(pageIndex - intoArea + areaPages, block.endPageIndex());
  }

  /** Up to the next boundary of a whole run, so that runs stay aligned in the file. */
  private int limit(RamBlock block, long first) {
    int pages = (int) Math.max(1, block.hostPageSize().pagesIn(runBytes));
    long intoRun = (first - block.firstPageIndex()) % pages;
    return (int) Math.min(pages - intoRun, block.endPageIndex() - first);
  }

  /**
   * The aligned run around a page: what lies before a fault is wanted as often as what lies behind.
   */
  private long runStart(RamBlock block, long page) {
    long pages = Math.max(1, block.hostPageSize().pagesIn(runBytes));
    return page - (page - block.firstPageIndex()) % pages;
  }

  private boolean followFaults() {
    long hint = engine.takeFaultHint();
    if (hint < 0) {
      return false;
    }
    for (int i = 0; i < blocks.size(); i++) {
      RamBlock block = blocks.get(i);
      if (hint >= block.firstPageIndex() && hint < block.endPageIndex()) {
        blockIndex = i;
        pageIndex = runStart(block, hint);
        blocksWithoutWork = 0;
        return true;
      }
    }
    return false;
  }
}
