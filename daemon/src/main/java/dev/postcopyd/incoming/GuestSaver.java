package dev.postcopyd.incoming;

import dev.postcopyd.handover.VmmConversation;
import dev.postcopyd.outgoing.background.Incremental;
import dev.postcopyd.outgoing.background.WriteTracking;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.postcopy.uffd.HandedOverFaultSource;
import dev.postcopyd.postcopy.uffd.HandedOverMemory;
import dev.postcopyd.postcopy.uffd.HandedOverPagePlacer;
import java.io.IOException;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;
import org.jspecify.annotations.Nullable;

/**
 * The saves of one handed-over guest, one after the other, and the conversation with its VMM, which
 * outlasts them. Tells the save that is under way what becomes of the guest. Safe for any thread.
 */
final class GuestSaver {
  private final HandedOverGuest guest;
  private final Optional<WriteTracking> tracking;
  private @Nullable VmmConversation conversation;
  private boolean over;
  private volatile @Nullable HandedOverSaving saving;

  GuestSaver(HandedOverGuest guest, Incremental incremental) {
    this.guest = guest;
    this.tracking =
        incremental == Incremental.OFF
            ? Optional.empty()
            : Optional.of(new WriteTracking(incremental));
  }

  /**
   * A guest to be saved; all of its memory is there.
   *
   * @throws IOException if it can't be, saying why
   */
  synchronized HandedOverSaving next(
      HandedOverMemory memory, HandedOverFaultSource faults, HandedOverPagePlacer pages)
      throws IOException {
    if (over) {
      throw new IOException("guest %d is at its end".formatted(guest.id()));
    }
    if (guest.connection() < 0) {
      throw new IOException(
          "guest %d was forked: it has no connection on which it could be asked to pause"
              .formatted(guest.id()));
    }
    VmmConversation with = conversation;
    if (with == null) {
      with = new VmmConversation(guest.connection(), guest.record());
      conversation = with;
    }
    HandedOverSaving next =
        new HandedOverSaving(
            guest,
            memory,
            faults,
            new SettledGuest(pages),
            with,
            ThreadLocalRandom.current().nextLong(1, 1L << 53),
            tracking);
    saving = next;
    return next;
  }

  /** See {@link HandedOverSaving#dropped}. */
  void dropped(RamBlock block, long firstPageIndex, long pageCount) {
    HandedOverSaving of = saving;
    if (of != null) {
      of.dropped(block, firstPageIndex, pageCount);
    }
  }

  /** The guest is at its end, or the daemon: a save fails. */
  void gone(String reason) {
    HandedOverSaving of = saving;
    if (of != null) {
      of.gone(reason);
    }
  }

  /**
   * Ends a save that is under way, and what one has left, for good; returns when nobody uses the
   * guest any more.
   */
  void end(String reason) {
    synchronized (this) {
      over = true;
    }
    HandedOverSaving of = saving;
    if (of != null) {
      of.gone(reason);
      of.awaitEnd();
      saving = null;
    }
    tracking.ifPresent(tracked -> tracked.end(reason));
  }
}
