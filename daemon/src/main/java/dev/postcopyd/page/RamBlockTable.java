package dev.postcopyd.page;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * All RAM blocks of a guest, in order, over one page index space.
 *
 * <p>Immutable and safe for any thread. The space has holes: each block begins on a multiple of 64,
 * so that a bitmap over {@link #indexSpaceSize()} pages never mixes two blocks in one word.
 */
public final class RamBlockTable {
  private final List<RamBlock> blocks;
  private final Map<String, RamBlock> byName;
  private final long indexSpaceSize;
  private final long totalPages;
  private final long totalBytes;

  private RamBlockTable(List<RamBlock> blocks) {
    this.blocks = List.copyOf(blocks);
    this.byName = new HashMap<>();
    long pages = 0;
    long bytes = 0;
    long end = 0;
    for (RamBlock block : blocks) {
      byName.put(block.name(), block);
      pages += block.pageCount();
      bytes = Math.addExact(bytes, block.usedLengthBytes());
      end = block.endPageIndex();
    }
    this.totalPages = pages;
    this.totalBytes = bytes;
    this.indexSpaceSize = end;
  }

  public static Builder builder() {
    return new Builder();
  }

  public List<RamBlock> blocks() {
    return blocks;
  }

  public @Nullable RamBlock byName(String name) {
    return byName.get(name);
  }

  /** The size of a bitmap over all pages, in bits. */
  public long indexSpaceSize() {
    return indexSpaceSize;
  }

  /** How many pages there are: what is to be received before a load is complete. */
  public long totalPages() {
    return totalPages;
  }

  public long totalBytes() {
    return totalBytes;
  }

  /** Collects blocks and lays them out in the index space. Not thread-safe. */
  public static final class Builder {
    private final List<RamBlock> blocks = new ArrayList<>();
    private long nextPageIndex;

    private Builder() {}

    /**
     * Appends a block.
     *
     * @throws IllegalArgumentException if the length is no multiple of the page size
     */
    public RamBlock add(String name, long usedLengthBytes, PageSize hostPageSize) {
      RamBlock block =
          new RamBlock(blocks.size(), name, usedLengthBytes, hostPageSize, nextPageIndex);
      blocks.add(block);
      nextPageIndex = (block.endPageIndex() + 63) & -64L;
      return block;
    }

    public RamBlockTable build() {
      return new RamBlockTable(blocks);
    }
  }
}
