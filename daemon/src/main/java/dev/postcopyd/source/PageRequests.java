package dev.postcopyd.source;

import dev.postcopyd.page.RamBlock;

/**
 * Takes requests for pages, to be sent to a migration source. Safe for any thread; never blocks on
 * the source, and allocates nothing while the source listens.
 */
@FunctionalInterface
public interface PageRequests {
  /**
   * Asks for a run of pages of one block. What the source has sent already it does not send again,
   * and says nothing about.
   *
   * @param firstPageIndex index in the table's page index space
   */
  void request(RamBlock block, long firstPageIndex, int pageCount);
}
