package dev.postcopyd.snapshot;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/**
 * What a snapshot has in common with an earlier one of the same layout, and what of it is still to
 * be copied. Pages that are written anew, or become zero, are taken out. One thread; does not own
 * the file.
 */
final class InheritedPages {
  private static final PageSize PAGE_SIZE = StreamFormat.TARGET_PAGE_SIZE;
  private static final int STEP_BYTES = 1 << 20;

  private final NativeFile earlier;
  private final List<PageBitmap> left = new ArrayList<>();

  InheritedPages(NativeFile earlier) {
    this.earlier = earlier;
  }

  /** Adds the next block: all that the earlier snapshot stores of it. */
  void addBlock(PageBitmap stored) {
    left.add(stored);
  }

  /** These are not what they were. */
  void drop(int blockIndex, long firstPage, long pageCount) {
    left.get(blockIndex).clear(firstPage, pageCount);
  }

  /** Takes what is to be copied next, or nothing. */
  @FunctionalInterface
  interface Sink {
    void pages(int blockIndex, long firstPage, long pageCount, long sourceAddress)
        throws IOException;
  }

  /**
   * Copies a part of what is left, up to about so many bytes.
   *
   * @param pagesOffsets where each block's pages are in the earlier file
   * @return how many bytes; 0 when nothing is left
   */
  long copy(long mostBytes, List<Long> pagesOffsets, Sink sink) throws IOException {
    long done = 0;
    try (MemoryMapping buffer = MemoryMapping.anonymous(STEP_BYTES)) {
      for (int block = 0; block < left.size(); block++) {
        PageBitmap of = left.get(block);
        long page = of.nextSet(0);
        while (page >= 0 && done < mostBytes) {
          long run = of.run(page, PAGE_SIZE.pagesIn(STEP_BYTES));
          earlier.readFullyAt(
              buffer.address(),
              PAGE_SIZE.offsetOf(run),
              pagesOffsets.get(block) + PAGE_SIZE.offsetOf(page));
          sink.pages(block, page, run, buffer.address());
          of.clear(page, run);
          done += PAGE_SIZE.offsetOf(run);
          page = of.nextSet(page + run);
        }
      }
    }
    return done;
  }
}
