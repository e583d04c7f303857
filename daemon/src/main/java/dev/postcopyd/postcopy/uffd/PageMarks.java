package dev.postcopyd.postcopy.uffd;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.MappedWords;
import dev.postcopyd.posix.MemoryMapping;

/**
 * What has become of each page of a handed-over guest, in memory that outlives this process: one
 * bit a page for each of three marks.
 *
 * <ul>
 *   <li><b>received</b>: it has been placed (or given up) and is never placed from the snapshot
 *       again.
 *   <li><b>removed</b>: the guest has given it back, or unmapped it: from then on it is zero, or
 *       nothing.
 *   <li><b>begun</b>: a placement was begun; without the mark <em>received</em> beside it, nobody
 *       knows whether an earlier daemon got to its end.
 * </ul>
 *
 * <p>Safe for any thread; allocates nothing. The mapping is its owner's. Layout: three bitmaps of
 * {@link #wordsFor} words each, one behind the other.
 */
public final class PageMarks {
  private final MappedWords received;
  private final MappedWords removed;
  private final MappedWords begun;

  /**
   * Marks in a mapping.
   *
   * @param offsetBytes where they lie, a multiple of 8
   */
  public PageMarks(MemoryMapping mapping, long offsetBytes, RamBlockTable table) {
    int words = wordsFor(table);
    received = new MappedWords(mapping, offsetBytes, words);
    removed = new MappedWords(mapping, offsetBytes + ((long) words << 3), words);
    begun = new MappedWords(mapping, offsetBytes + ((long) words << 4), words);
  }

  /** The words of one mark. */
  public static int wordsFor(RamBlockTable table) {
    return Math.toIntExact((table.indexSpaceSize() + 63) >>> 6);
  }

  /** The room that the marks of a table take. */
  public static long sizeBytes(RamBlockTable table) {
    return 3L * Long.BYTES * wordsFor(table);
  }

  /** Takes over what is marked for the same pages of another process, at a fork. */
  public void copyFrom(PageMarks other) {
    for (int i = 0; i < received.count(); i++) {
      received.set(i, other.received.get(i));
      removed.set(i, other.removed.get(i));
      begun.set(i, other.begun.get(i));
    }
  }

  public boolean isReceived(long pageIndex) {
    return has(received, pageIndex);
  }

  public boolean isRemoved(long pageIndex) {
    return has(removed, pageIndex);
  }

  /** A copy of what was begun and, as far as is known, not ended. */
  long[] begunAndNotReceived() {
    long[] words = new long[begun.count()];
    for (int i = 0; i < words.length; i++) {
      words[i] = begun.get(i) & ~received.get(i);
    }
    return words;
  }

  void markReceived(long firstPageIndex, int pageCount) {
    mark(received, firstPageIndex, pageCount);
  }

  void markBegun(long firstPageIndex, int pageCount) {
    mark(begun, firstPageIndex, pageCount);
  }

  void markRemoved(long firstPageIndex, long pageCount) {
    mark(removed, firstPageIndex, pageCount);
  }

  /** How many pages from one on are removed, or are not, as the first is; at most {@code limit}. */
  int runOfRemoved(long firstPageIndex, int limit) {
    boolean kind = isRemoved(firstPageIndex);
    int run = 1;
    while (run < limit && isRemoved(firstPageIndex + run) == kind) {
      run++;
    }
    return run;
  }

  /** How many pages from one on need nothing from the snapshot, or do, as the first does. */
  public long runOfDone(long firstPageIndex, long limit) {
    boolean kind = isDone(firstPageIndex);
    long run = 1;
    while (run < limit && isDone(firstPageIndex + run) == kind) {
      run++;
    }
    return run;
  }

  /** Whether a page needs nothing from the snapshot any more. */
  public boolean isDone(long pageIndex) {
    int word = (int) (pageIndex >>> 6);
    return ((received.get(word) | removed.get(word)) & (1L << pageIndex)) != 0;
  }

  private static boolean has(MappedWords words, long pageIndex) {
    return (words.get((int) (pageIndex >>> 6)) & (1L << pageIndex)) != 0;
  }

  private static void mark(MappedWords words, long firstPageIndex, long pageCount) {
    long pageIndex = firstPageIndex;
    long left = pageCount;
    while (left > 0) {
      int bit = (int) (pageIndex & 63);
      int run = (int) Math.min(left, 64 - bit);
      long _ = words.or((int) (pageIndex >>> 6), (-1L >>> (64 - run)) << bit);
      pageIndex += run;
      left -= run;
    }
  }
}
