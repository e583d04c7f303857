package dev.postcopyd.incoming;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import java.io.IOException;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/**
 * What pages the guest {@code memory} is made of: by default 4 KiB everywhere.
 *
 * @param pageSize for every block whose length is a multiple of it; the others have 4 KiB pages
 * @param ofBlocks page sizes of blocks by name, which must fit their lengths
 */
public record MemoryLayout(PageSize pageSize, Map<String, PageSize> ofBlocks) {
  public static final MemoryLayout BASE_PAGES = new MemoryLayout(PageSize.SIZE_4K, Map.of());

  public MemoryLayout {
    ofBlocks = Map.copyOf(ofBlocks);
  }

  /**
   * Lays a snapshot's blocks out in memory.
   *
   * @throws IOException if an option names a block that the snapshot does not have, or does not fit
   */
  RamBlockTable layOut(Snapshot snapshot) throws IOException {
    Set<String> unknown = new TreeSet<>(ofBlocks.keySet());
    RamBlockTable.Builder table = RamBlockTable.builder();
    for (SnapshotBlock block : snapshot.blocks()) {
      unknown.remove(block.name());
      table.add(block.name(), block.usedLengthBytes(), pageSizeOf(block));
    }
    if (!unknown.isEmpty()) {
      throw new IOException(
          "page-size."
              + unknown.iterator().next()
              + ": snapshot "
              + snapshot.name()
              + " has no such block");
    }
    return table.build();
  }

  private PageSize pageSizeOf(SnapshotBlock block) throws IOException {
    PageSize named = ofBlocks.get(block.name());
    if (named != null && !named.isAligned(block.usedLengthBytes())) {
      throw new IOException(
          "page-size."
              + block.name()
              + "="
              + named
              + ": the block's length is not a multiple of it: "
              + block.usedLengthBytes());
    }
    if (named != null) {
      return named;
    }
    return pageSize.isAligned(block.usedLengthBytes()) ? pageSize : block.targetPageSize();
  }
}
