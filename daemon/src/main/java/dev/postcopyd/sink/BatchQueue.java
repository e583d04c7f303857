package dev.postcopyd.sink;

import dev.postcopyd.stream.PageBuffer;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Between the threads that receive and the one that writes: batches in the order in which they were
 * put, and the buffers that they lie in.
 *
 * <p>As long as there is memory a receiver never waits for the disk. When there is none it waits
 * for a moment, and then moves its batch to the spill file, so that a source that must not be held
 * up (a background snapshot stops its guest on the next write) never is; only when that file, too,
 * has its full size does a receiver wait for the writer. Safe for any thread.
 */
final class BatchQueue implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(BatchQueue.class);
  private static final long MOMENT_NANOS = TimeUnit.MILLISECONDS.toNanos(20);

  private final int maxBuffers;
  private final long maxSpillBytes;
  private final SpillFile spill;
  private final Deque<PageBatch> waiting = new ArrayDeque<>();
  private final Deque<SharedBuffer> freeBuffers = new ArrayDeque<>();
  private final List<SharedBuffer> allBuffers = new ArrayList<>();
  private final Deque<PageBatch> freeBatches = new ArrayDeque<>();
  private boolean closed;
  private boolean finished;
  private boolean spilled;

  /** Buffers in waiting batches. */
  private int waitingBuffers;

  /**
   * @param memoryBytes what may wait in memory
   * @param maxSpillBytes what may wait in the file
   */
  BatchQueue(long memoryBytes, long maxSpillBytes, SpillFile spill) {
    this.maxBuffers = Math.clamp(memoryBytes / PageBuffer.BYTES, 4, 1 << 20);
    this.maxSpillBytes = maxSpillBytes;
    this.spill = spill;
  }

  /** A buffer to receive into; taken once. There are always enough for every channel. */
  synchronized SharedBuffer takeBuffer() {
    SharedBuffer buffer = freeBuffers.pollLast();
    if (buffer == null) {
      buffer = new SharedBuffer();
      allBuffers.add(buffer);
    }
    buffer.take();
    return buffer;
  }

  /** One user of a buffer needs it no more. */
  synchronized void releaseBuffer(SharedBuffer buffer) {
    if (buffer.release() && !allBuffers.isEmpty()) {
      freeBuffers.addLast(buffer);
    }
  }

  synchronized PageBatch takeBatch() {
    PageBatch batch = freeBatches.pollLast();
    return batch == null ? new PageBatch() : batch;
  }

  /** The writer is done with a batch. */
  synchronized void recycle(PageBatch batch) {
    SharedBuffer buffer = batch.buffer;
    if (buffer != null) {
      waitingBuffers--;
      releaseBuffer(buffer);
    }
    batch.clear();
    freeBatches.addLast(batch);
    notifyAll();
  }

  /** Puts a batch behind all others; its buffer has been taken for it. */
  synchronized void put(PageBatch batch) throws IOException {
    long deadline = System.nanoTime() + MOMENT_NANOS;
    while (waitingBuffers >= maxBuffers && !closed) {
      long left = deadline - System.nanoTime();
      if (left > 0) {
        await(left);
      } else if (spill.sizeBytes() < maxSpillBytes) {
        spill(batch);
        break;
      } else {
        await(MOMENT_NANOS);
      }
    }
    if (closed) {
      throw new IOException("the snapshot is no longer being written");
    }
    if (batch.buffer != null) {
      waitingBuffers++;
    }
    waiting.addLast(batch);
    notifyAll();
  }

  private void spill(PageBatch batch) throws IOException {
    SharedBuffer buffer = batch.buffer;
    if (buffer == null || batch.to <= batch.from) {
      return;
    }
    if (!spilled) {
      spilled = true;
      log.warn("the snapshot's disk is too slow: pages wait in a file, as memory for them is full");
    }
    batch.spillOffsetBytes =
        spill.append(buffer.memory.address() + batch.from, batch.to - batch.from);
    batch.buffer = null;
    releaseBuffer(buffer);
  }

  /** The next batch for the writer, who waits for one; null when there will be none. */
  synchronized @Nullable PageBatch next() throws IOException {
    while (waiting.isEmpty() && !finished && !closed) {
      await(TimeUnit.SECONDS.toNanos(1));
    }
    return closed ? null : waiting.pollFirst();
  }

  /** Brings a spilled batch's bytes back, to where they were in a buffer of their own. */
  synchronized void readBack(PageBatch batch, PageBuffer into) throws IOException {
    spill.take(batch.spillOffsetBytes, into.address() + batch.from, batch.to - batch.from);
  }

  /** Nothing more will be put. */
  synchronized void finish() {
    finished = true;
    notifyAll();
  }

  private void await(long nanos) throws IOException {
    try {
      TimeUnit.NANOSECONDS.timedWait(this, nanos);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    }
  }

  /** Whoever waits is told that it is over. */
  synchronized void stop() {
    closed = true;
    notifyAll();
  }

  /** Frees everything; no thread uses a buffer any more. */
  @Override
  public synchronized void close() {
    closed = true;
    waiting.clear();
    allBuffers.forEach(buffer -> buffer.memory.close());
    allBuffers.clear();
    freeBuffers.clear();
    spill.close();
  }
}
