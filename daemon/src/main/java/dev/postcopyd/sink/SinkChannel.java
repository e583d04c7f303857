package dev.postcopyd.sink;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.source.MigrationReceiver;
import dev.postcopyd.stream.PageBuffer;
import java.io.IOException;
import org.jspecify.annotations.Nullable;

/**
 * The pages of one channel, on their way to the writer: what is handed over is noted, and the
 * buffer that it lies in goes with the note. Used by the channel's thread; allocates nothing per
 * page.
 */
final class SinkChannel implements MigrationReceiver.Channel {
  private static final int PAGE_SHIFT = 12;

  private final SnapshotSink sink;
  private final BatchQueue queue;
  private PageBatch batch;
  private @Nullable SharedBuffer buffer;
  private long bufferAddress;
  private boolean closed;

  SinkChannel(SnapshotSink sink, BatchQueue queue) {
    this.sink = sink;
    this.queue = queue;
    this.batch = queue.takeBatch();
  }

  @Override
  public PageBuffer exchange(@Nullable PageBuffer full, int keptFrom, int keptLength)
      throws IOException {
    flush();
    SharedBuffer old = buffer;
    SharedBuffer next = queue.takeBuffer();
    if (full != null && old != null) {
      next.memory.keep(full, keptFrom, keptLength);
      queue.releaseBuffer(old);
    }
    buffer = next;
    bufferAddress = next.memory.address();
    return next.memory;
  }

  @Override
  public void data(RamBlock block, long offsetBytes, int pageCount, long address, int strideBytes)
      throws IOException {
    int position = (int) (address - bufferAddress);
    int end = position + (pageCount - 1) * strideBytes + (1 << PAGE_SHIFT);
    add(PageBatch.Kind.DATA, block, offsetBytes, pageCount, position, strideBytes, end);
    sink.dataCame(block, offsetBytes >>> PAGE_SHIFT, pageCount);
  }

  @Override
  public void zero(RamBlock block, long offsetBytes, int pageCount) throws IOException {
    add(PageBatch.Kind.ZERO, block, offsetBytes, pageCount, -1, 0, 0);
    sink.zerosCame(block, offsetBytes >>> PAGE_SHIFT, pageCount);
  }

  @Override
  public void delta(RamBlock block, long offsetBytes, long address, int lengthBytes)
      throws IOException {
    int position = (int) (address - bufferAddress);
    add(PageBatch.Kind.DELTA, block, offsetBytes, lengthBytes, position, 0, position + lengthBytes);
    sink.dataCame(block, offsetBytes >>> PAGE_SHIFT, 1);
  }

  private void add(
      PageBatch.Kind kind,
      RamBlock block,
      long offsetBytes,
      int count,
      int position,
      int stride,
      int end)
      throws IOException {
    if (batch.isFull()) {
      flush();
    }
    batch.add(kind, block.index(), offsetBytes >>> PAGE_SHIFT, count, position, stride, end);
  }

  @Override
  public void flush() throws IOException {
    if (batch.isEmpty()) {
      return;
    }
    PageBatch full = batch;
    SharedBuffer of = buffer;
    if (full.to > 0 && of != null) {
      of.take();
      full.buffer = of;
    }
    batch = queue.takeBatch();
    sink.put(full);
  }

  @Override
  public void close() {
    if (closed) {
      return;
    }
    closed = true;
    try {
      flush();
    } catch (IOException e) {
      // The sink has failed, and whoever waits for it is told by it.
    }
    SharedBuffer old = buffer;
    buffer = null;
    if (old != null) {
      queue.releaseBuffer(old);
    }
  }
}
