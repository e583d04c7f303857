package dev.postcopyd.snapshot;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.util.List;
import java.util.Optional;

/**
 * Plain guest memory: byte {@code i} of the file is byte {@code i} of the guest's one block, which
 * is called {@value #BLOCK_NAME}. Every page counts as stored. There is no device state: the VMM
 * keeps its own.
 *
 * <p>Immutable and safe for any thread; owns its file.
 */
public final class RawMemoryFile implements Snapshot {
  /** How the block is called: the file itself has no name for it. */
  public static final String BLOCK_NAME = "ram";

  private static final PageSize PAGE_SIZE = PageSize.SIZE_4K;

  private final NativeFile file;
  private final SnapshotBlock block;

  private RawMemoryFile(NativeFile file, SnapshotBlock block) {
    this.file = file;
    this.block = block;
  }

  /** Whether a file of this size can be guest memory. */
  static boolean isPossibleSize(long sizeBytes) {
    return sizeBytes > 0 && PAGE_SIZE.isAligned(sizeBytes);
  }

  /** Takes the file over if it succeeds; a caller that gets an exception still owns it. */
  static RawMemoryFile open(NativeFile file, long sizeBytes) throws IOException {
    if (sizeBytes > SnapshotLimits.MAX_RAM_BYTES) {
      throw new StreamFormatException(
          "RAM size of %d bytes is not possible (at most %d)"
              .formatted(sizeBytes, SnapshotLimits.MAX_RAM_BYTES),
          0);
    }
    long pageCount = PAGE_SIZE.pagesIn(sizeBytes);
    SnapshotLimits.requireHeap(pageCount >>> 3, "the page bitmap");
    PageBitmap stored = new PageBitmap(pageCount);
    stored.set(0, pageCount);
    return new RawMemoryFile(
        file, new SnapshotBlock(BLOCK_NAME, sizeBytes, PAGE_SIZE, 0, stored.words()));
  }

  @Override
  public String name() {
    return file.name();
  }

  @Override
  public SnapshotFormat format() {
    return SnapshotFormat.RAW_MEMORY;
  }

  @Override
  public NativeFile file() {
    return file;
  }

  @Override
  public List<SnapshotBlock> blocks() {
    return List.of(block);
  }

  @Override
  public Optional<MachineState> machineState() {
    return Optional.empty();
  }

  @Override
  public void close() {
    file.close();
  }
}
