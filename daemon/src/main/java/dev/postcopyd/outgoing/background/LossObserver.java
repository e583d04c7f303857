package dev.postcopyd.outgoing.background;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.postcopy.ClaimBitmap;
import java.util.function.Consumer;

/**
 * Ends a snapshot that can't be made any more: pages are lost that were not saved yet.
 *
 * @param trouble is told why
 */
record LossObserver(ClaimBitmap pending, Consumer<String> trouble)
    implements TrackedGuest.Observer {
  @Override
  public void trouble(String reason) {
    trouble.accept(reason);
  }

  /** What somebody has claimed is copied by now. */
  @Override
  public void dropped(RamBlock block, long firstPageIndex, long pageCount) {
    if (pending.nextUnclaimed(firstPageIndex, firstPageIndex + pageCount) >= 0) {
      trouble.accept("the VMM has given back or unmapped memory that was not saved yet");
    }
  }
}
