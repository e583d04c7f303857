package dev.postcopyd.workingset;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.snapshot.SnapshotIdentity;
import java.util.Arrays;
import java.util.Optional;

/**
 * What one resume has to say of a snapshot's working set. Immutable.
 *
 * <p>A page that was there before the guest touched it leaves no trace. So of a page that this
 * resume prefetched it is known only that it <em>was</em> touched, if it was faster than the
 * prefetch; otherwise nothing, and the recording speaks neither for it nor against it.
 */
final class Recording {
  private final long[] faultedKeys;
  private final Optional<WorkingSet> prefetched;
  private final boolean complete;

  /**
   * @param faultedKeys the pages that the guest had to wait for, in the order of their first
   *     faults, each once; taken over
   * @param prefetched what this resume brought in first
   * @param complete whether the resume went on until all pages were there: otherwise the guest may
   *     have been about to touch any page that it did not
   */
  Recording(long[] faultedKeys, Optional<WorkingSet> prefetched, boolean complete) {
    this.faultedKeys = faultedKeys;
    this.prefetched = prefetched;
    this.complete = complete;
  }

  long[] faultedKeys() {
    return faultedKeys;
  }

  Optional<WorkingSet> prefetched() {
    return prefetched;
  }

  boolean complete() {
    return complete;
  }

  /**
   * Names faulted host pages by their target pages.
   *
   * @param pageIndices page indices of the guest's table, in order, each once
   * @param table its first blocks are those of the snapshot, in the snapshot's order; further ones
   *     are unknown to it and left out
   */
  static long[] keysOf(long[] pageIndices, RamBlockTable table, SnapshotIdentity identity) {
    long[] keys = new long[pageIndices.length];
    int count = 0;
    for (long pageIndex : pageIndices) {
      RamBlock block = blockOf(pageIndex, table);
      if (block.index() >= identity.blocks().size()) {
        continue;
      }
      SnapshotIdentity.Block snapshotBlock = identity.blocks().get(block.index());
      PageSize targetSize = snapshotBlock.targetPageSize();
      long first = targetSize.pageIndexOf(block.offsetOf(pageIndex));
      int targets = (int) Math.max(1, targetSize.pagesIn(block.hostPageSize().bytes()));
      if (count + targets > keys.length) {
        keys = Arrays.copyOf(keys, Math.max(keys.length * 2, count + targets));
      }
      for (long page = first; page < first + targets && page < snapshotBlock.pageCount(); page++) {
        keys[count++] = PageKey.of(block.index(), page);
      }
    }
    return Arrays.copyOf(keys, count);
  }

  private static RamBlock blockOf(long pageIndex, RamBlockTable table) {
    for (RamBlock block : table.blocks()) {
      if (pageIndex >= block.firstPageIndex() && pageIndex < block.endPageIndex()) {
        return block;
      }
    }
    throw new IllegalArgumentException("no block has page index " + pageIndex);
  }
}
