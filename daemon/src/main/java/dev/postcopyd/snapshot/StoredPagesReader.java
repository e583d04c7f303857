package dev.postcopyd.snapshot;

import dev.postcopyd.page.PageSize;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Reads every stored page of a snapshot once and throws it away: the disk that cannot read a page
 * says so now, and not while a guest waits for it.
 */
public final class StoredPagesReader {
  private static final long BUFFER_BYTES = 4 << 20;

  private StoredPagesReader() {}

  /**
   * Reads all stored pages, in the order of the file.
   *
   * @return how many pages were read
   * @throws IOException with file, offset and errno, for the first part that cannot be read
   */
  public static long readAll(Snapshot snapshot) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment buffer = arena.allocate(BUFFER_BYTES);
      long pages = 0;
      for (SnapshotBlock block : snapshot.blocks()) {
        pages += readBlock(snapshot, block, buffer);
      }
      return pages;
    }
  }

  private static long readBlock(Snapshot snapshot, SnapshotBlock block, MemorySegment buffer)
      throws IOException {
    PageSize pageSize = block.targetPageSize();
    long pagesAtOnce = pageSize.pagesIn(buffer.byteSize());
    long read = 0;
    for (long page = 0; page < block.pageCount(); ) {
      long run = block.runLength(page, pagesAtOnce);
      if (block.isStored(page)) {
        snapshot
            .file()
            .readFullyAt(
                buffer.address(),
                pageSize.offsetOf(run),
                block.pagesOffsetBytes() + pageSize.offsetOf(page));
        read += run;
      }
      page += run;
    }
    return read;
  }
}
