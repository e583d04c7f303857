package dev.postcopyd.outgoing.background;

import dev.postcopyd.posix.MemoryMapping;
import java.io.IOException;
import java.util.concurrent.atomic.LongAdder;
import org.jspecify.annotations.Nullable;

/**
 * What has been copied out of the guest and is not in the file yet: memory of the daemon's own,
 * which the guest can't reach, and as much of it as was allowed.
 *
 * <p>Pieces are taken, filled and submitted by the scan and by the fault thread, and written and
 * given back, in the order of their submission, by one writer. The piece given back last is taken
 * first, so that a disk that keeps up costs little memory. A part of the pieces is for faults only:
 * the scan waits first, and a guest is held up only when all of it is full. Waiting ends with
 * {@link #abort}. Safe for any thread; allocates nothing once made. Owns the memory.
 */
final class CopyBuffer implements AutoCloseable {
  /** The least that is of any use: a huge page for a fault, another for the scan, and some. */
  static final long LEAST_BYTES = 32L * CopiedPages.BYTES;

  private final MemoryMapping memory;
  private final CopiedPages[] free;
  private final CopiedPages[] full;
  private final int reserve;
  private final LongAdder throttledFaults = new LongAdder();
  private final LongAdder throttledNanos = new LongAdder();
  private int freeCount;
  private int fullFirst;
  private int fullCount;
  private int fewestFree;
  private boolean finished;
  private boolean aborted;

  /** The snapshot has come to an end before its time. */
  static final class AbortedException extends IOException {
    private static final long serialVersionUID = 1;

    AbortedException() {
      super("the snapshot was given up");
    }
  }

  CopyBuffer(long limitBytes) throws IOException {
    int pieces = Math.toIntExact(Math.max(limitBytes, LEAST_BYTES) / CopiedPages.BYTES);
    memory = MemoryMapping.anonymous((long) pieces * CopiedPages.BYTES);
    free = new CopiedPages[pieces];
    full = new CopiedPages[pieces];
    for (int i = 0; i < pieces; i++) {
      // The last one is taken first.
      free[pieces - 1 - i] = new CopiedPages(memory.address() + (long) i * CopiedPages.BYTES);
    }
    freeCount = pieces;
    fewestFree = pieces;
    reserve = Math.max(9, pieces / 8);
  }

  /** An empty piece for the scan. */
  synchronized CopiedPages takeForScan() throws IOException {
    while (!aborted && freeCount <= reserve) {
      await();
    }
    return take();
  }

  /** An empty piece for a page that somebody waits for. */
  synchronized CopiedPages takeForFault() throws IOException {
    if (freeCount == 0 && !aborted) {
      long start = System.nanoTime();
      throttledFaults.increment();
      while (!aborted && freeCount == 0) {
        await();
      }
      throttledNanos.add(System.nanoTime() - start);
    }
    return take();
  }

  private CopiedPages take() throws AbortedException {
    if (aborted) {
      throw new AbortedException();
    }
    freeCount--;
    fewestFree = Math.min(fewestFree, freeCount);
    return free[freeCount];
  }

  /** Passes a piece on to the writer. */
  synchronized void submit(CopiedPages pages) {
    full[(fullFirst + fullCount) % full.length] = pages;
    fullCount++;
    notifyAll();
  }

  /** The piece that was submitted first, or null when there will be no more. For the writer. */
  synchronized @Nullable CopiedPages next() throws IOException {
    while (!aborted && fullCount == 0 && !finished) {
      await();
    }
    if (aborted) {
      throw new AbortedException();
    }
    if (fullCount == 0) {
      return null;
    }
    CopiedPages pages = full[fullFirst];
    fullFirst = (fullFirst + 1) % full.length;
    fullCount--;
    return pages;
  }

  /** A piece has been written, or is not needed. */
  synchronized void giveBack(CopiedPages pages) {
    pages.clear();
    free[freeCount++] = pages;
    notifyAll();
  }

  /** Nothing will be submitted any more. */
  synchronized void finish() {
    finished = true;
    notifyAll();
  }

  /** Ends all waiting, for good. */
  synchronized void abort() {
    aborted = true;
    notifyAll();
  }

  /** How often a fault has found no room. */
  long throttledFaults() {
    return throttledFaults.sum();
  }

  /** How long faults have waited for room, together. */
  long throttledNanos() {
    return throttledNanos.sum();
  }

  /** The most that was in use. */
  synchronized long mostUsedBytes() {
    return (long) (free.length - fewestFree) * CopiedPages.BYTES;
  }

  /** Every caller loops. */
  @SuppressWarnings("WaitNotInLoop")
  private void await() throws IOException {
    try {
      wait();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    }
  }

  /** When nobody uses a piece any more. */
  @Override
  public void close() {
    memory.close();
  }
}
