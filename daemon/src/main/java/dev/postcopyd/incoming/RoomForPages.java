package dev.postcopyd.incoming;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.MemoryLimit;
import dev.postcopyd.postcopy.network.DataLimit;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import java.io.IOException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Looks, before the first page is loaded into the daemon's own memory, whether all that a snapshot
 * stores can be there at once. A load that goes beyond a limit does not fail: the kernel kills the
 * whole daemon for it, and that is the last that anybody hears. Stateless.
 */
final class RoomForPages {
  private static final Logger log = LoggerFactory.getLogger(RoomForPages.class);

  /** For each page that is mapped, also to the one page of zeros. */
  private static final int PAGE_TABLE_ENTRY_BYTES = 8;

  private RoomForPages() {}

  /**
   * Refuses what is certain not to fit. What others use is not counted, for it may become free.
   *
   * @param table the guest's blocks, in the snapshot's order
   * @throws IOException if the pages need more memory than this process can have
   */
  static void require(Snapshot snapshot, RamBlockTable table) throws IOException {
    MemoryLimit limit;
    long usedBytes;
    try {
      limit = MemoryLimit.ofThisProcess();
      usedBytes = MemoryLimit.usedByThisProcess();
    } catch (IOException e) {
      log.warn("not known how much memory there is: {}", e.getMessage());
      return;
    }
    long storedBytes = storedBytes(snapshot, table);
    if (storedBytes > limit.bytes() - usedBytes) {
      throw new IOException(
          "out of memory: "
              + snapshot.name()
              + " stores "
              + storedBytes
              + " bytes of RAM, and of the at most "
              + limit.bytes()
              + " bytes that this process can have ("
              + limit.setBy()
              + ") it uses "
              + usedBytes
              + " already: raise that limit, or load a smaller guest");
    }
  }

  /**
   * How much data a migration source may send; what it is going to send nobody knows before.
   *
   * @param table the guest's blocks, as the source has announced them
   * @throws IOException if not even a guest of zeros fits, for which the kernel needs page tables
   */
  static DataLimit ofSource(RamBlockTable table) throws IOException {
    MemoryLimit limit;
    long usedBytes;
    try {
      limit = MemoryLimit.ofThisProcess();
      usedBytes = MemoryLimit.usedByThisProcess();
    } catch (IOException e) {
      log.warn("not known how much memory there is: {}", e.getMessage());
      return DataLimit.NONE;
    }
    return ofSource(table, limit, usedBytes);
  }

  static DataLimit ofSource(RamBlockTable table, MemoryLimit limit, long usedBytes)
      throws IOException {
    long roomBytes = Math.max(0, limit.bytes() - usedBytes);
    long tablesBytes = PageSize.SIZE_4K.pagesIn(table.totalBytes()) * PAGE_TABLE_ENTRY_BYTES;
    String reason =
        "of the at most %d bytes that this process can have (%s) it used %d before: raise that limit, or send a smaller guest"
            .formatted(limit.bytes(), limit.setBy(), usedBytes);
    if (tablesBytes > roomBytes) {
      throw new IOException(
          "out of memory: the source's guest has %d bytes of RAM, the kernel's tables for it alone take %d, and %s"
              .formatted(table.totalBytes(), tablesBytes, reason));
    }
    return new DataLimit(PageSize.SIZE_4K.pagesIn(roomBytes), reason);
  }

  /** Zero pages take no memory, and huge pages come from a pool of their own. */
  private static long storedBytes(Snapshot snapshot, RamBlockTable table) {
    long bytes = 0;
    for (RamBlock block : table.blocks()) {
      if (block.hostPageSize().equals(PageSize.SIZE_4K)) {
        SnapshotBlock stored = snapshot.blocks().get(block.index());
        bytes += stored.targetPageSize().offsetOf(stored.storedPages());
      }
    }
    return bytes;
  }
}
