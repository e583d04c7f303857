package dev.postcopyd.snapshot;

import java.util.List;

/**
 * What a mapped-ram file holds, all checked.
 *
 * @param layouts where each of the blocks lies, in their order
 * @param deviceSectionsOffsetBytes file offset of the first device section
 */
record MappedRamContents(
    List<SnapshotBlock> blocks,
    List<BlockLayout> layouts,
    MachineState machineState,
    long deviceSectionsOffsetBytes) {
  MappedRamContents {
    blocks = List.copyOf(blocks);
    layouts = List.copyOf(layouts);
  }
}
