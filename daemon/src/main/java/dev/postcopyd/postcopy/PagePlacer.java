package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlock;

/**
 * Puts pages into the guest: by UFFDIO_COPY and its relatives, as page records on a stream, or as
 * writes into a snapshot. The only door through which a page reaches a guest.
 *
 * <p>Called by the fault thread and by loader threads at once, for different pages. Must not
 * allocate when all goes well.
 */
public interface PagePlacer {
  /**
   * Places the bytes at native address {@code sourceAddress}.
   *
   * @param urgency whether somebody waits: a placer with more than one way into the guest chooses
   */
  PlaceResult placeData(
      RamBlock block, long firstPageIndex, int pageCount, long sourceAddress, Urgency urgency);

  /** Places zero pages. */
  PlaceResult placeZero(RamBlock block, long firstPageIndex, int pageCount, Urgency urgency);

  /** The same for placing as {@link PostcopyPageHandler#prepareThread} is for fetching. */
  default void prepareThread() {}

  /**
   * Wakes whoever waits for a page that has been placed already; sends a page that has been
   * withheld.
   */
  void wake(RamBlock block, long pageIndex);
}
