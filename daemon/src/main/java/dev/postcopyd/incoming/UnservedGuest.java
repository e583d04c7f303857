package dev.postcopyd.incoming;

import dev.postcopyd.handover.GuestRecord;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.uffd.GuestChanges;
import dev.postcopyd.postcopy.uffd.HandedOverFaultSource;
import dev.postcopyd.postcopy.uffd.HandedOverMemory;
import dev.postcopyd.postcopy.uffd.HandedOverPagePlacer;
import java.io.IOException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A guest that never had a load and gets none: before its userfaultfd is closed, what it misses is
 * made to raise SIGBUS, because it would find zeros otherwise.
 */
final class UnservedGuest {
  private static final Logger log = LoggerFactory.getLogger(UnservedGuest.class);

  /** What happens meanwhile is of no interest. */
  private static final GuestChanges NOBODY =
      new GuestChanges() {
        @Override
        public void dropped(RamBlock block, long firstPageIndex, long pageCount) {}

        @Override
        public void forked(int descriptor) {}

        @Override
        public void gone(String reason) {}

        @Override
        public void misbehaved(String reason) {}
      };

  private UnservedGuest() {}

  /** Lets nobody who waits for a page, or will, take zeros for its contents. */
  static void poison(HandedOverGuest guest) {
    GuestRecord record = guest.record();
    RamBlockTable table = GuestRecord.geometry(record.identity().mappings());
    try {
      HandedOverMemory memory =
          new HandedOverMemory(
              guest.userfaultfd(),
              table,
              record.segments(table),
              record.marks(table),
              record.events(),
              record);
      if (memory.isProcessGone()) {
        return;
      }
      try (HandedOverFaultSource faults = new HandedOverFaultSource(memory, -1, NOBODY);
          HandedOverPagePlacer pages = new HandedOverPagePlacer(memory, faults, guest.files())) {
        new RefusedGuest(guest, memory, faults, pages, HandedOverOptions.DEFAULT_SIGNAL)
            .poisonAll();
      }
    } catch (IOException e) {
      log.error(
          "guest finds zeros for what it misses guest={} reason=\"{}\"",
          guest.id(),
          e.getMessage());
    }
  }
}
