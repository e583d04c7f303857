package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlock;
import java.util.List;

/**
 * Hands out, in a given order, the pages that are wanted before all others, and leaves out those
 * that somebody has claimed. Pages that stand next to each other both in the order and in memory
 * come as one run.
 *
 * <p>Shared by all loader threads of one load, as {@link ClaimCursor} is, whose turn comes when
 * this one is at its end. No fault displaces it.
 */
final class PrefetchCursor {
  private final PostcopyEngine engine;
  private final List<RamBlock> blocks;
  private final long runBytes;
  private final long[] pageIndices;
  private int position;

  /**
   * @param pageIndices page indices of the engine's table, in order; not written to
   * @param runBytes the most bytes in a run; at least one page is handed out in any case
   */
  PrefetchCursor(PostcopyEngine engine, long[] pageIndices, long runBytes) {
    this.engine = engine;
    this.blocks = engine.table().blocks();
    this.pageIndices = pageIndices;
    this.runBytes = runBytes;
  }

  /** Claims the next run; false when there is none left. */
  synchronized boolean claimNext(ClaimCursor.Run run) {
    while (position < pageIndices.length) {
      long first = pageIndices[position];
      RamBlock block = blockOf(first, run.block);
      int pageCount = engine.claims().tryClaimRun(first, neighbours(block));
      position += Math.max(1, pageCount);
      if (pageCount > 0) {
        run.block = block;
        run.firstPageIndex = first;
        run.pageCount = pageCount;
        return true;
      }
    }
    return false;
  }

  /** How many pages from the position on lie one behind the other in the block. */
  private int neighbours(RamBlock block) {
    long first = pageIndices[position];
    long limit =
        Math.min(
            Math.min(pageIndices.length - position, block.endPageIndex() - first),
            Math.max(1, block.hostPageSize().pagesIn(runBytes)));
    int count = 1;
    while (count < limit && pageIndices[position + count] == first + count) {
      count++;
    }
    return count;
  }

  private RamBlock blockOf(long pageIndex, RamBlock likely) {
    if (contains(likely, pageIndex)) {
      return likely;
    }
    for (int i = 0; i < blocks.size(); i++) {
      if (contains(blocks.get(i), pageIndex)) {
        return blocks.get(i);
      }
    }
    throw new IllegalStateException("no block has page index " + pageIndex);
  }

  private static boolean contains(RamBlock block, long pageIndex) {
    return pageIndex >= block.firstPageIndex() && pageIndex < block.endPageIndex();
  }
}
