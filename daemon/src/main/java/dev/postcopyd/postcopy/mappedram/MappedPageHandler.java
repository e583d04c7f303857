package dev.postcopyd.postcopy.mappedram;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.postcopy.PageSink;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import java.io.IOException;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Resolves pages for a placer that copies them in a system call anyway: eager runs are delivered
 * straight out of a shared mapping of the snapshot, so that their bytes are copied once.
 *
 * <p>A run is made present before it is delivered (MADV_POPULATE_READ, one call a run) and dropped
 * from the page tables behind it, so that the daemon's resident memory stays small. If that fails,
 * and for single pages that somebody waits for or is expected to, and for huge pages, which have to
 * be put together, and with direct I/O, the pages are read by a {@link SnapshotPageHandler}: its errors come with errno and offset, and
 * before a placer has begun to send. A file that is truncated between the two makes the placer's
 * system call answer EFAULT.
 *
 * <p>Any thread may fetch; nothing is allocated per page. Owns the mappings, not the snapshot.
 */
public final class MappedPageHandler implements PostcopyPageHandler {
  private static final long READ_AHEAD_BYTES = 4 << 20;

  private final SnapshotBlock[] blocks;
  private final @Nullable MemoryMapping[] mappings;
  private final SnapshotPageHandler reader;

  /**
   * Maps the pages of every block.
   *
   * @param snapshot its blocks stand in the order of the guest's RAM block table
   * @param largestPage the largest host page size of the guest
   */
  public MappedPageHandler(Snapshot snapshot, PageSize largestPage) throws IOException {
    List<SnapshotBlock> list = snapshot.blocks();
    this.blocks = list.toArray(new SnapshotBlock[0]);
    this.mappings = new MemoryMapping[blocks.length];
    this.reader = new SnapshotPageHandler(snapshot, largestPage);
    try {
      for (int i = 0; i < blocks.length; i++) {
        SnapshotBlock block = blocks[i];
        if (!snapshot.file().isDirectIo()
            && block.storedPages() > 0
            && block.pagesOffsetBytes() % MemoryMapping.basePageSizeBytes() == 0) {
          mappings[i] = snapshot.file().map(block.pagesOffsetBytes(), block.usedLengthBytes());
        }
      }
    } catch (IOException | RuntimeException e) {
      close();
      throw e;
    }
  }

  @Override
  public void fetch(
      RamBlock block, long firstPageIndex, int pageCount, Urgency urgency, PageSink sink) {
    SnapshotBlock stored = blocks[block.index()];
    MemoryMapping mapping = mappings[block.index()];
    if (mapping == null
        || urgency != Urgency.EAGER
        || block.hostPageSize().shift() != stored.targetPageSize().shift()
        || stored.targetPageSize().bytes() % MemoryMapping.basePageSizeBytes() != 0) {
      reader.fetch(block, firstPageIndex, pageCount, urgency, sink);
      return;
    }
    int done = 0;
    while (done < pageCount) {
      long pageIndex = firstPageIndex + done;
      long targetPage = pageIndex - block.firstPageIndex();
      int run = (int) stored.runLength(targetPage, pageCount - done);
      if (!stored.isStored(targetPage)) {
        sink.zero(block, pageIndex, run, urgency);
      } else {
        deliver(mapping, block, pageIndex, run, urgency, sink);
      }
      done += run;
    }
  }

  private void deliver(
      MemoryMapping mapping,
      RamBlock block,
      long pageIndex,
      int run,
      Urgency urgency,
      PageSink sink) {
    long offsetBytes = block.offsetOf(pageIndex);
    long lengthBytes = block.hostPageSize().offsetOf(run);
    readAhead(mapping, offsetBytes, lengthBytes);
    if (mapping.populateRead(offsetBytes, lengthBytes) == 0) {
      sink.data(block, pageIndex, run, mapping.address() + offsetBytes, urgency);
    } else {
      // Says what is wrong, or is luckier.
      reader.fetch(block, pageIndex, run, urgency, sink);
    }
    // Advice only: what can't be dropped stays a little longer.
    int _ = mapping.dontNeed(offsetBytes, lengthBytes);
  }

  /** Once per window: asks for the next one, while this one is being sent. */
  private static void readAhead(MemoryMapping mapping, long offsetBytes, long lengthBytes) {
    long window = offsetBytes & -READ_AHEAD_BYTES;
    if (offsetBytes == window || window != (offsetBytes + lengthBytes & -READ_AHEAD_BYTES)) {
      long next = (offsetBytes + lengthBytes & -READ_AHEAD_BYTES) + READ_AHEAD_BYTES;
      long from = offsetBytes == 0 ? 0 : Math.min(next, mapping.lengthBytes());
      long until = Math.min(next + READ_AHEAD_BYTES, mapping.lengthBytes());
      if (until > from) {
        int _ = mapping.willNeed(from, until - from);
      }
    }
  }

  @Override
  public void prepareThread() {
    reader.prepareThread();
  }

  @Override
  public void close() {
    for (MemoryMapping mapping : mappings) {
      if (mapping != null) {
        mapping.close();
      }
    }
    reader.close();
  }
}
