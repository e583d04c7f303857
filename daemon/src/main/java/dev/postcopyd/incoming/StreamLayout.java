package dev.postcopyd.incoming;

import dev.postcopyd.guest.PostcopyDestination;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;
import java.util.HashSet;
import java.util.Set;
import java.util.TreeSet;

/** A snapshot's blocks as a migration destination has them: its names, its page sizes. Pure. */
final class StreamLayout {
  private StreamLayout() {}

  /**
   * Lays the blocks out in the order of the snapshot.
   *
   * @throws IOException if a name or a page size fits no block
   */
  static RamBlockTable layOut(Snapshot snapshot, PostcopyDestination.Terms terms)
      throws IOException {
    Set<String> unmapped = new TreeSet<>(terms.destinationNames().keySet());
    Set<String> unsized = new TreeSet<>(terms.hostPageSizes().keySet());
    unsized.removeAll(terms.extraBlocks());
    Set<String> taken = new HashSet<>();
    RamBlockTable.Builder table = RamBlockTable.builder();
    for (SnapshotBlock block : snapshot.blocks()) {
      unmapped.remove(block.name());
      String name = terms.destinationNames().getOrDefault(block.name(), block.name());
      unsized.remove(name);
      if (!taken.add(name)) {
        throw new IOException(
            "map." + block.name() + "=" + name + ": two blocks would have this name");
      }
      PageSize pageSize = terms.hostPageSizes().getOrDefault(name, block.targetPageSize());
      if (!pageSize.isAligned(block.usedLengthBytes())) {
        throw new IOException(
            "page-size."
                + name
                + "="
                + pageSize
                + ": the block's length is not a multiple of it: "
                + block.usedLengthBytes());
      }
      table.add(name, block.usedLengthBytes(), pageSize);
    }
    if (!unmapped.isEmpty()) {
      throw new IOException(
          "map."
              + unmapped.iterator().next()
              + ": snapshot "
              + snapshot.name()
              + " has no such block");
    }
    if (!unsized.isEmpty()) {
      throw new IOException(
          "page-size."
              + unsized.iterator().next()
              + ": the destination gets no such block from snapshot "
              + snapshot.name());
    }
    return table.build();
  }

  /** All page sizes of the destination or-ed together: what ADVISE says. */
  static long pageSizeSummary(RamBlockTable table, PostcopyDestination.Terms terms) {
    long summary = 0;
    for (var block : table.blocks()) {
      summary |= block.hostPageSize().bytes();
    }
    for (String extra : terms.extraBlocks()) {
      summary |= terms.hostPageSizes().getOrDefault(extra, StreamFormat.TARGET_PAGE_SIZE).bytes();
    }
    return summary;
  }
}
