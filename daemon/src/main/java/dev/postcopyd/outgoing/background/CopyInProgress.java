package dev.postcopyd.outgoing.background;

/**
 * Which pages one thread is copying, for others that want to lift their protection once they are
 * copied. It is said before the pages are claimed: whoever finds a page claimed, and it is not said
 * here, or not any more, may take it for copied. Allocates nothing.
 */
final class CopyInProgress {
  private static final int SPINS = 200;

  private volatile long first = -1;
  private volatile long end = -1;

  /** These are going to be claimed and copied. For the one thread that copies. */
  void begin(long firstPageIndex, long pageCount) {
    end = firstPageIndex + pageCount;
    first = firstPageIndex;
  }

  /** What was claimed is copied. */
  void done() {
    first = -1;
  }

  /** Returns when a page that was found claimed is not being copied. */
  @SuppressWarnings("ThreadPriorityCheck")
  void awaitCopied(long pageIndex) {
    for (int tries = 0; isCopying(pageIndex); tries++) {
      if (tries < SPINS) {
        Thread.onSpinWait();
      } else {
        // It may need this very CPU.
        Thread.yield();
      }
    }
  }

  private boolean isCopying(long pageIndex) {
    long from = first;
    return from >= 0 && pageIndex >= from && pageIndex < end;
  }
}
