package dev.postcopyd.sink;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.PageBuffer;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Objects;
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
 * has its full size, or its disk no room, does a receiver wait for the writer. Safe for any thread.
 */
final class BatchQueue implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(BatchQueue.class);
  private static final long MOMENT_NANOS = TimeUnit.MILLISECONDS.toNanos(20);

  /** As many batches wait in memory as buffers do: a list of many short runs has its size, too. */
  private final int maxInMemory;

  private final SpillFile spill;
  private final Deque<Entry> waiting = new ArrayDeque<>();
  private final Deque<SharedBuffer> freeBuffers = new ArrayDeque<>();
  private final List<SharedBuffer> allBuffers = new ArrayList<>();
  private final Deque<PageBatch> freeBatches = new ArrayDeque<>();
  private boolean closed;
  private boolean finished;
  private boolean spillWorks = true;

  /** Batches in memory that wait or are being written. */
  private int inMemory;

  /** Those that wait in the file. */
  private int inFile;

  /** A batch's turn: in memory, or in the file once it has been written there. */
  private static final class Entry {
    private @Nullable PageBatch batch;
    private SpillFile.@Nullable Piece piece;
    private boolean ready;
  }

  /**
   * @param memoryBytes what may wait in memory
   */
  BatchQueue(long memoryBytes, SpillFile spill) {
    this.maxInMemory = Math.clamp(memoryBytes / PageBuffer.BYTES, 4, 1 << 20);
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
  void recycle(PageBatch batch) {
    NativeFile emptied = null;
    synchronized (this) {
      if (batch.spilled) {
        inFile--;
        emptied = spill.release();
      } else {
        inMemory--;
      }
      free(batch);
      notifyAll();
    }
    if (emptied != null) {
      emptied.close();
    }
  }

  private void free(PageBatch batch) {
    SharedBuffer buffer = batch.buffer;
    if (buffer != null) {
      releaseBuffer(buffer);
    }
    batch.clear();
    freeBatches.addLast(batch);
  }

  /** Puts a batch behind all others; its buffer has been taken for it. */
  void put(PageBatch batch) throws IOException {
    Entry entry = new Entry();
    SpillFile.Piece piece;
    synchronized (this) {
      piece = makeRoom(batch);
      entry.batch = batch;
      entry.piece = piece;
      entry.ready = piece == null;
      waiting.addLast(entry);
      if (piece == null) {
        inMemory++;
        notifyAll();
        return;
      }
      inFile++;
    }
    boolean written = false;
    try {
      piece.write(batch);
      written = true;
    } catch (IOException e) {
      log.warn("pages can't wait in a file any more: from now on the source waits", e);
    }
    NativeFile emptied = null;
    synchronized (this) {
      if (written) {
        entry.batch = null;
        free(batch);
      } else {
        // It keeps its turn, and stays where it is.
        spillWorks = false;
        entry.piece = null;
        inFile--;
        inMemory++;
        emptied = spill.release();
      }
      entry.ready = true;
      notifyAll();
    }
    if (emptied != null) {
      emptied.close();
    }
  }

  /** Waits for room in memory (null), or finds some in the file. */
  private SpillFile.@Nullable Piece makeRoom(PageBatch batch) throws IOException {
    long deadline = System.nanoTime() + MOMENT_NANOS;
    while (inMemory >= maxInMemory && !closed) {
      long left = inFile > 0 ? 0 : deadline - System.nanoTime();
      SpillFile.Piece piece = left <= 0 && spillWorks ? reserve(batch) : null;
      if (piece != null) {
        return piece;
      }
      await(left > 0 ? left : MOMENT_NANOS);
    }
    if (closed) {
      throw new IOException("the snapshot is no longer being written");
    }
    return null;
  }

  private SpillFile.@Nullable Piece reserve(PageBatch batch) {
    try {
      SpillFile.Piece piece = spill.reserve(batch);
      if (piece != null && inFile == 0) {
        log.warn(
            "the snapshot's disk is too slow: pages wait in a file, as memory for them is full");
      }
      return piece;
    } catch (IOException e) {
      spillWorks = false;
      log.warn("pages can't wait in a file: the source waits for the snapshot's disk", e);
      return null;
    }
  }

  /**
   * The next batch for the writer, who waits for one; null when there will be none.
   *
   * @param back where the bytes of a batch go that come from the file, at their old places
   */
  @Nullable PageBatch next(PageBuffer back) throws IOException {
    SpillFile.Piece piece;
    PageBatch batch;
    synchronized (this) {
      while (!closed && (waiting.isEmpty() ? !finished : !waiting.getFirst().ready)) {
        await(TimeUnit.SECONDS.toNanos(1));
      }
      Entry entry = closed ? null : waiting.pollFirst();
      if (entry == null) {
        return null;
      }
      PageBatch inMemoryBatch = entry.batch;
      if (inMemoryBatch != null) {
        return inMemoryBatch;
      }
      piece = Objects.requireNonNull(entry.piece);
      batch = takeBatch();
    }
    batch.spilled = true;
    piece.read(batch, back);
    return batch;
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
