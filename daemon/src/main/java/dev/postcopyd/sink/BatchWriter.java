package dev.postcopyd.sink;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.StreamSocket.IoVector;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.stream.PageBuffer;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.XbzrleDelta;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;

/**
 * Writes batches into a mapped-ram file. Pages go from where they were received: neighbours in the
 * file in one call, whatever lies between them in the buffer; past the page cache they are put one
 * behind the other first, as that asks for. Used by one thread.
 */
final class BatchWriter implements AutoCloseable {
  private static final PageSize PAGE_SIZE = StreamFormat.TARGET_PAGE_SIZE;
  private static final int PAGE_BYTES = (int) PAGE_SIZE.bytes();
  private static final int MAX_PIECES = 512;

  private final MappedRamWriter writer;
  private final boolean direct;
  private final Arena arena = Arena.ofShared();
  private final IoVector vector = new IoVector(MAX_PIECES);
  private final MemorySegment stage = arena.allocate((long) MAX_PIECES * PAGE_BYTES, PAGE_BYTES);
  private final ByteBuffer onePage = stage.asSlice(0, PAGE_BYTES).asByteBuffer();

  /**
   * @param direct whether the file wants aligned memory
   */
  BatchWriter(MappedRamWriter writer, boolean direct) {
    this.writer = writer;
    this.direct = direct;
  }

  /**
   * Writes a batch.
   *
   * @param buffer what its positions mean
   */
  void write(PageBatch batch, PageBuffer buffer) throws IOException {
    for (int run = 0; run < batch.runs(); run++) {
      switch (batch.kind(run)) {
        case DATA -> data(batch, run, buffer.address());
        case ZERO -> writer.zeroPages(batch.block(run), batch.firstPage(run), batch.count(run));
        case DELTA -> delta(batch, run, buffer);
      }
    }
  }

  private void data(PageBatch batch, int run, long base) throws IOException {
    int stride = batch.stride(run);
    int count = batch.count(run);
    long page = batch.firstPage(run);
    long address = base + batch.position(run);
    int done = 0;
    while (done < count) {
      int pages = Math.min(count - done, MAX_PIECES);
      long first = address + (long) done * stride;
      if (direct) {
        for (int i = 0; i < pages; i++) {
          GuestMemoryAccess.copy(
              stage.address() + (long) i * PAGE_BYTES, first + (long) i * stride, PAGE_BYTES);
        }
        writer.writePages(batch.block(run), page + done, pages, stage.address());
      } else if (stride == PAGE_BYTES) {
        writer.writePages(batch.block(run), page + done, pages, first);
      } else {
        for (int i = 0; i < pages; i++) {
          vector.set(i, first + (long) i * stride, PAGE_BYTES);
        }
        writer.writePages(batch.block(run), page + done, pages, vector, pages);
      }
      done += pages;
    }
  }

  /** A delta is against what the page held before, and all of that has been written by now. */
  private void delta(PageBatch batch, int run, PageBuffer buffer) throws IOException {
    MemorySegment page = stage.asSlice(0, PAGE_BYTES);
    writer.readPage(batch.block(run), batch.firstPage(run), page);
    if (!XbzrleDelta.apply(buffer.bytes(), batch.position(run), batch.count(run), onePage)) {
      throw new IOException(
          "the xbzrle delta of page %d of block %d is malformed"
              .formatted(batch.firstPage(run), batch.block(run)));
    }
    writer.writePages(batch.block(run), batch.firstPage(run), 1, page.address());
  }

  @Override
  public void close() {
    vector.close();
    arena.close();
  }
}
