package dev.postcopyd.postcopy.uffd;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.util.Comparator;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Which addresses of the guest belong to which RAM block, both ways. Immutable; no method
 * allocates.
 */
final class GuestRegions {
  private final long[] baseByBlockIndex;
  private final long[] starts;
  private final RamBlock[] blocks;

  /**
   * @param baseAddresses where each block begins in the guest's address space, by block index
   */
  GuestRegions(RamBlockTable table, long[] baseAddresses) {
    baseByBlockIndex = baseAddresses.clone();
    List<RamBlock> byAddress =
        table.blocks().stream()
            .sorted(
                Comparator.comparing(block -> baseAddresses[block.index()], Long::compareUnsigned))
            .toList();
    blocks = byAddress.toArray(new RamBlock[0]);
    starts = byAddress.stream().mapToLong(block -> baseAddresses[block.index()]).toArray();
  }

  long addressOf(RamBlock block, long pageIndex) {
    return baseByBlockIndex[block.index()] + block.offsetOf(pageIndex);
  }

  /** The block at an address, or null if there is none. */
  @Nullable RamBlock blockAt(long address) {
    int low = 0;
    int high = starts.length - 1;
    while (low <= high) {
      int middle = (low + high) >>> 1;
      if (Long.compareUnsigned(starts[middle], address) <= 0) {
        low = middle + 1;
      } else {
        high = middle - 1;
      }
    }
    if (high < 0 || address - starts[high] >= blocks[high].usedLengthBytes()) {
      return null;
    }
    return blocks[high];
  }

  /** The page at an address that lies in {@code block}. */
  long pageIndexAt(RamBlock block, long address) {
    return block.pageIndexAt(address - baseByBlockIndex[block.index()]);
  }
}
