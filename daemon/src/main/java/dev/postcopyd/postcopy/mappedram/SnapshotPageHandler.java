package dev.postcopyd.postcopy.mappedram;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.EagerLoader;
import dev.postcopyd.postcopy.PageSink;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * Resolves pages by reading them from a snapshot file: what the file does not store is zero, what
 * it stores is read by position into a buffer of the calling thread and delivered from there.
 *
 * <p>Positional reads serve both ways. For a single page of a warm file they cost a few hundred
 * nanoseconds more than copying out of a mapping; for whole runs they cost less; and a read error
 * comes with its errno and offset, where a mapping has a signal or a bare EFAULT.
 *
 * <p>Any thread may fetch; each gets a buffer on its first fetch, and {@link #close} frees them
 * all. Does not own the snapshot. Nothing is allocated once a thread has its buffer.
 */
public final class SnapshotPageHandler implements PostcopyPageHandler {
  private final NativeFile file;
  private final SnapshotBlock[] blocks;
  private final Arena buffers = Arena.ofShared();
  private final ThreadLocal<Stage> stages;

  /**
   * @param snapshot its blocks stand in the order of the guest's RAM block table
   * @param largestPage the largest host page size of the guest
   */
  public SnapshotPageHandler(Snapshot snapshot, PageSize largestPage) {
    this.file = snapshot.file();
    List<SnapshotBlock> list = snapshot.blocks();
    this.blocks = list.toArray(new SnapshotBlock[0]);
    long stageBytes = Math.max(EagerLoader.RUN_BYTES, largestPage.bytes());
    this.stages = ThreadLocal.withInitial(() -> new Stage(buffers.allocate(stageBytes, 4096)));
  }

  /** A thread's own buffer, which pages are read into. */
  private static final class Stage {
    final MemorySegment segment;
    final long address;
    final long lengthBytes;

    Stage(MemorySegment segment) {
      this.segment = segment;
      this.address = segment.address();
      this.lengthBytes = segment.byteSize();
    }
  }

  @Override
  public void prepareThread() {
    Stage _ = stages.get();
  }

  @Override
  public void fetch(
      RamBlock block, long firstPageIndex, int pageCount, Urgency urgency, PageSink sink) {
    SnapshotBlock stored = blocks[block.index()];
    if (block.hostPageSize().shift() == stored.targetPageSize().shift()) {
      fetchPages(stored, block, firstPageIndex, pageCount, urgency, sink);
    } else {
      for (int i = 0; i < pageCount; i++) {
        fetchHugePage(stored, block, firstPageIndex + i, urgency, sink);
      }
    }
  }

  /** Host and target pages are the same: runs of either kind go through as they are. */
  private void fetchPages(
      SnapshotBlock stored,
      RamBlock block,
      long firstPageIndex,
      int pageCount,
      Urgency urgency,
      PageSink sink) {
    Stage stage = stages.get();
    int stagePages = (int) block.hostPageSize().pagesIn(stage.lengthBytes);
    int done = 0;
    while (done < pageCount) {
      long pageIndex = firstPageIndex + done;
      long targetPage = pageIndex - block.firstPageIndex();
      int run = (int) stored.runLength(targetPage, pageCount - done);
      if (!stored.isStored(targetPage)) {
        sink.zero(block, pageIndex, run, urgency);
      } else {
        run = Math.min(run, stagePages);
        try {
          read(stored, targetPage, run, stage.address);
        } catch (IOException e) {
          sink.failed(block, pageIndex, pageCount - done, unreadable(block, e));
          return;
        }
        sink.data(block, pageIndex, run, stage.address, urgency);
      }
      done += run;
    }
  }

  /**
   * A host page of many target pages: put together from what the file stores, then placed whole.
   */
  private void fetchHugePage(
      SnapshotBlock stored, RamBlock block, long pageIndex, Urgency urgency, PageSink sink) {
    PageSize targetSize = stored.targetPageSize();
    long firstTarget = targetSize.pageIndexOf(block.offsetOf(pageIndex));
    long targets = targetSize.pagesIn(block.hostPageSize().bytes());
    if (!stored.isStored(firstTarget) && stored.runLength(firstTarget, targets) == targets) {
      sink.zero(block, pageIndex, 1, urgency);
      return;
    }
    Stage stage = stages.get();
    long done = 0;
    while (done < targets) {
      long target = firstTarget + done;
      long run = stored.runLength(target, targets - done);
      long offsetBytes = targetSize.offsetOf(done);
      if (stored.isStored(target)) {
        try {
          read(stored, target, run, stage.address + offsetBytes);
        } catch (IOException e) {
          sink.failed(block, pageIndex, 1, unreadable(block, e));
          return;
        }
      } else {
        stage.segment.asSlice(offsetBytes, targetSize.offsetOf(run)).fill((byte) 0);
      }
      done += run;
    }
    sink.data(block, pageIndex, 1, stage.address, urgency);
  }

  @Override
  public long knownZeroPages(RamBlock block, long firstPageIndex) {
    SnapshotBlock stored = blocks[block.index()];
    int shift = block.hostPageSize().shift() - stored.targetPageSize().shift();
    long end = Math.min(firstPageIndex + 64, block.endPageIndex());
    long zero = 0;
    long page = firstPageIndex;
    while (page < end) {
      long target = (page - block.firstPageIndex()) << shift;
      long limit = (end - page) << shift;
      long run = stored.runLength(target, limit);
      if (stored.isStored(target)) {
        // On to the page in which the run ends: it holds data if only its first part does.
        page += (run + (1L << shift) - 1) >>> shift;
      } else {
        long pages = run >>> shift;
        zero |= pages == 0 ? 0 : (-1L >>> (64 - pages)) << page;
        page += pages + (((pages << shift) == run) ? 0 : 1);
      }
    }
    return zero;
  }

  private void read(SnapshotBlock stored, long targetPage, long pages, long address)
      throws IOException {
    PageSize size = stored.targetPageSize();
    file.readFullyAt(
        address, size.offsetOf(pages), stored.pagesOffsetBytes() + size.offsetOf(targetPage));
  }

  private static IOException unreadable(RamBlock block, IOException cause) {
    return new IOException(
        "a page of block " + block.name() + " can't be read: " + cause.getMessage(), cause);
  }

  @Override
  public void close() {
    buffers.close();
  }
}
