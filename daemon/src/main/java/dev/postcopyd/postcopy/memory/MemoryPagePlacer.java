package dev.postcopyd.postcopy.memory;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.postcopy.PagePlacer;
import dev.postcopyd.postcopy.PlaceResult;
import dev.postcopyd.postcopy.Urgency;

/**
 * Places pages into plain memory of the daemon by copying: what a load without postcopy does, for
 * which no userfaultfd is needed. Fresh memory is zero already, so zero pages cost nothing.
 *
 * <p>Safe for any thread; does not own the memory.
 */
public final class MemoryPagePlacer implements PagePlacer {
  private final long[] baseAddresses;

  /**
   * @param baseAddresses where each block begins, by block index; fresh, writable memory
   */
  public MemoryPagePlacer(long[] baseAddresses) {
    this.baseAddresses = baseAddresses.clone();
  }

  @Override
  public PlaceResult placeData(
      RamBlock block, long firstPageIndex, int pageCount, long sourceAddress, Urgency urgency) {
    GuestMemoryAccess.copy(
        baseAddresses[block.index()] + block.offsetOf(firstPageIndex),
        sourceAddress,
        block.hostPageSize().offsetOf(pageCount));
    return PlaceResult.PLACED;
  }

  @Override
  public PlaceResult placeZero(
      RamBlock block, long firstPageIndex, int pageCount, Urgency urgency) {
    return PlaceResult.PLACED;
  }

  @Override
  public void wake(RamBlock block, long pageIndex) {
    throw new IllegalStateException("nobody can wait for a page of a plain load");
  }
}
