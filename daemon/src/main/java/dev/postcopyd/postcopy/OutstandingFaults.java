package dev.postcopyd.postcopy;

import dev.postcopyd.metrics.PostcopyMetrics;
import java.util.Arrays;

/**
 * Who waits for which page since when. Entered when a fault is read, left when its page has been
 * placed; so blocktime also covers faults whose page a loader was fetching already.
 *
 * <p>There are as many entries as threads that wait, so a short unsorted array serves; it grows, by
 * doubling, only when more threads wait than ever before. Every method may be called from any
 * thread.
 */
final class OutstandingFaults {
  private final Blocktime blocktime = new Blocktime();
  private long[] pageIndices = new long[16];
  private int[] threadIds = new int[16];
  private long[] faultNanos = new long[16];
  private volatile int size;

  synchronized Blocktime.Figures blocktime() {
    return blocktime.snapshot();
  }

  boolean isEmpty() {
    return size == 0;
  }

  synchronized void begin(long pageIndex, int threadId, long nanos) {
    int count = size;
    for (int i = 0; i < count; i++) {
      if (pageIndices[i] == pageIndex && threadIds[i] == threadId) {
        return; // woken by a signal and back again: it has been waiting all the while
      }
    }
    if (count == pageIndices.length) {
      pageIndices = Arrays.copyOf(pageIndices, count * 2);
      threadIds = Arrays.copyOf(threadIds, count * 2);
      faultNanos = Arrays.copyOf(faultNanos, count * 2);
    }
    pageIndices[count] = pageIndex;
    threadIds[count] = threadId;
    faultNanos[count] = nanos;
    blocktime.begin(threadId, nanos, count + 1);
    size = count + 1;
  }

  /** The first page of a run that somebody waits for, or -1. */
  long firstAwaited(long fromPageIndex, long endPageIndex) {
    if (size == 0) {
      return -1;
    }
    return findAwaited(fromPageIndex, endPageIndex);
  }

  private synchronized long findAwaited(long fromPageIndex, long endPageIndex) {
    long first = -1;
    for (int i = 0; i < size; i++) {
      long page = pageIndices[i];
      if (page >= fromPageIndex && page < endPageIndex && (first < 0 || page < first)) {
        first = page;
      }
    }
    return first;
  }

  /** The pages of a run are in the guest: whoever waited for one of them does so no more. */
  void end(long firstPageIndex, int pageCount, long nowNanos, PostcopyMetrics metrics) {
    if (size == 0) {
      return;
    }
    endWaiting(firstPageIndex, pageCount, nowNanos, metrics);
  }

  private synchronized void endWaiting(
      long firstPageIndex, int pageCount, long nowNanos, PostcopyMetrics metrics) {
    int count = size;
    for (int i = count - 1; i >= 0; i--) {
      if (pageIndices[i] >= firstPageIndex && pageIndices[i] < firstPageIndex + pageCount) {
        long waitedNanos = Math.max(0, nowNanos - faultNanos[i]);
        metrics.faultResolved(waitedNanos);
        blocktime.end(threadIds[i], waitedNanos, nowNanos);
        count--;
        pageIndices[i] = pageIndices[count];
        threadIds[i] = threadIds[count];
        faultNanos[i] = faultNanos[count];
      }
    }
    size = count;
  }
}
