package dev.postcopyd.snapshot;

import dev.postcopyd.posix.NativeFile;
import java.util.List;
import java.util.Optional;

/**
 * Parts of a snapshot's blocks as blocks of their own: what a guest whose memory is laid out
 * otherwise than the snapshot is filled from.
 *
 * <p>Immutable and safe for any thread. Does not own the snapshot: {@link #close()} does nothing.
 */
public final class SnapshotSlices implements Snapshot {
  private final Snapshot whole;
  private final List<SnapshotBlock> slices;

  /**
   * A view.
   *
   * @param slices made by {@link #slice} from blocks of this snapshot
   */
  public SnapshotSlices(Snapshot whole, List<SnapshotBlock> slices) {
    this.whole = whole;
    this.slices = List.copyOf(slices);
  }

  /**
   * A part of a block; the block itself if the part is all of it.
   *
   * @param offsetBytes where it begins in the block, whole pages
   * @param lengthBytes its length, whole pages within the block
   */
  public static SnapshotBlock slice(SnapshotBlock block, long offsetBytes, long lengthBytes) {
    if (offsetBytes == 0 && lengthBytes == block.usedLengthBytes()) {
      return block;
    }
    if (offsetBytes < 0
        || lengthBytes <= 0
        || lengthBytes > block.usedLengthBytes() - offsetBytes
        || !block.targetPageSize().isAligned(offsetBytes | lengthBytes)) {
      throw new IllegalArgumentException(
          "%d bytes at offset %d are no part of block %s"
              .formatted(lengthBytes, offsetBytes, block.name()));
    }
    long first = block.targetPageSize().pageIndexOf(offsetBytes);
    long count = block.targetPageSize().pagesIn(lengthBytes);
    PageBitmap stored = new PageBitmap(count);
    long page = 0;
    while (page < count) {
      long run = block.runLength(first + page, count - page);
      if (block.isStored(first + page)) {
        stored.set(page, run);
      }
      page += run;
    }
    return new SnapshotBlock(
        block.name() + "@" + offsetBytes,
        lengthBytes,
        block.targetPageSize(),
        block.pagesOffsetBytes() + offsetBytes,
        stored.words());
  }

  @Override
  public String name() {
    return whole.name();
  }

  @Override
  public SnapshotFormat format() {
    return whole.format();
  }

  @Override
  public NativeFile file() {
    return whole.file();
  }

  @Override
  public List<SnapshotBlock> blocks() {
    return slices;
  }

  @Override
  public Optional<MachineState> machineState() {
    return whole.machineState();
  }

  @Override
  public void close() {}
}
