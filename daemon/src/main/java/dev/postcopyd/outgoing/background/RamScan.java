package dev.postcopyd.outgoing.background;

import dev.postcopyd.postcopy.ClaimBitmap;
import java.io.IOException;
import java.util.concurrent.atomic.LongAdder;

/**
 * Goes through memory from its beginning to its end, copies what nobody has written to yet, and
 * lifts its protection in runs. One thread; allocates nothing for a page.
 */
final class RamScan {
  private final TrackedGuest guest;
  private final ClaimBitmap pending;
  private final WriteProtection protection;
  private final PageCopier copier;
  private final boolean keeps;
  private final CopyInProgress copying = new CopyInProgress();
  private final LongAdder copiedBytes = new LongAdder();

  /**
   * A scan.
   *
   * @param keeps whether protection stays, so that later writes are seen
   */
  RamScan(
      TrackedGuest guest,
      ClaimBitmap pending,
      WriteProtection protection,
      PageCopier copier,
      boolean keeps) {
    this.guest = guest;
    this.pending = pending;
    this.protection = protection;
    this.copier = copier;
    this.keeps = keeps;
  }

  /** Until everything is copied, or is being copied by others. */
  void run() throws IOException {
    for (MemoryRange range : protection.ranges()) {
      long end = range.endPageIndex();
      long page = pending.nextUnclaimed(range.firstPageIndex(), end);
      while (page >= 0) {
        page = pending.nextUnclaimed(page + save(range, page, end - page), end);
      }
    }
  }

  /**
   * Saves a run of pages that begins with this one.
   *
   * @param most how many at most
   * @return how many it was; 0 if somebody else has the first
   */
  int save(MemoryRange range, long pageIndex, long most) throws IOException {
    long room = copier.makeRoom(range.block().hostPageSize().bytes());
    int limit = (int) Math.min(most, range.block().hostPageSize().pagesIn(room));
    int run;
    guest.enter();
    copying.begin(pageIndex, limit);
    try {
      run = pending.tryClaimRun(pageIndex, limit);
      if (run == 0) {
        return 0;
      }
      copier.copy(range, pageIndex, run);
    } finally {
      copying.done();
      guest.leave();
    }
    if (!keeps) {
      protection.lift(range, pageIndex, run);
    }
    copiedBytes.add(range.block().hostPageSize().offsetOf(run));
    return run;
  }

  /** What it is copying, which nobody may lift. */
  CopyInProgress copying() {
    return copying;
  }

  void flush() {
    copier.flush();
  }

  long copiedBytes() {
    return copiedBytes.sum();
  }
}
