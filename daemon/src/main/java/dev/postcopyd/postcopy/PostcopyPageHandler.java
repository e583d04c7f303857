package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlock;

/**
 * Resolves pages: by a file read, by a network request, or by anything else that can be plugged in.
 *
 * <p>A handler fetches and delivers; it never touches a userfaultfd or a guest's stream, and it
 * never decides who fetches: it is only called by the owner of the pages' claim. Every page that it
 * was asked for is delivered to the sink exactly once, as data, as zero or as failed, either before
 * {@link #fetch} returns or later from a thread of the handler's own.
 *
 * <p>{@link #fetch} is called by the fault thread and by several loader threads at once. It must
 * not allocate per page.
 */
public interface PostcopyPageHandler extends AutoCloseable {
  /**
   * Fetches a run of pages of one block.
   *
   * @param firstPageIndex index in the table's page index space
   * @param pageCount at least 1; the run does not leave the block
   */
  void fetch(RamBlock block, long firstPageIndex, int pageCount, Urgency urgency, PageSink sink);

  /**
   * Takes what the calling thread needs for its fetches, so that its first one is as quick as the
   * others. Called once by each thread of the engine before that.
   */
  default void prepareThread() {}

  /**
   * Which of 64 pages are known to be zero without a look at their contents: bit {@code i} is page
   * {@code firstPageIndex + i}. For those who watch; from any thread, also after {@link #close}.
   *
   * @param firstPageIndex a multiple of 64; bits beyond the block's last page mean nothing
   */
  default long knownZeroPages(RamBlock block, long firstPageIndex) {
    return 0;
  }

  /** Frees what the handler holds. No fetch is under way and none follows. */
  @Override
  void close();
}
