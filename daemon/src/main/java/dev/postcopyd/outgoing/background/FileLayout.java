package dev.postcopyd.outgoing.background;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.snapshot.MappedRamWriter;
import java.util.List;

/**
 * Where a guest's blocks lie in the file's: a VMM may have a block in several mappings.
 *
 * @param blocks the file's blocks
 * @param places for each block of the guest, by its index
 */
public record FileLayout(List<MappedRamWriter.Block> blocks, List<Place> places) {

  /**
   * A place in the file's blocks.
   *
   * @param fileBlock which
   * @param offsetBytes where in it
   */
  public record Place(int fileBlock, long offsetBytes) {}

  public FileLayout {
    blocks = List.copyOf(blocks);
    places = List.copyOf(places);
  }

  /** The guest's blocks are the file's. */
  public static FileLayout same(RamBlockTable table) {
    return new FileLayout(
        table.blocks().stream()
            .map(block -> new MappedRamWriter.Block(block.name(), block.usedLengthBytes()))
            .toList(),
        table.blocks().stream().map(block -> new Place(block.index(), 0)).toList());
  }

  int fileBlock(RamBlock block) {
    return places.get(block.index()).fileBlock();
  }

  /** The page of the file's block, in pages of 4 KiB, at an offset of the guest's block. */
  long filePage(RamBlock block, long offsetBytes) {
    return (places.get(block.index()).offsetBytes() + offsetBytes) / CopiedPages.PAGE_BYTES;
  }
}
