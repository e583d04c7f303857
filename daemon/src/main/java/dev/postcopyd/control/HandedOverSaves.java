package dev.postcopyd.control;

import dev.postcopyd.incoming.GuestView;
import dev.postcopyd.incoming.HandedOverGuests;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.outgoing.Save;
import dev.postcopyd.outgoing.SaveState;
import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.outgoing.background.BackgroundSave;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrationStatus;
import java.io.IOException;
import java.time.Duration;
import java.util.Locale;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Background snapshots of guests that have handed their memory over, one at a time: what
 * query-migrate shows of the one that was begun last. Begun by the dispatcher's thread; everything
 * else is for any.
 */
public final class HandedOverSaves implements Save.Listener {
  static final String IN_PROGRESS = "There's a migration process in progress";

  private static final Logger log = LoggerFactory.getLogger(HandedOverSaves.class);
  private static final Duration CLOSE = Duration.ofSeconds(4);

  private final HandedOverGuests guests;
  private final GuestEvents events;
  private final PostcopyMetrics metrics;
  private final long bufferBytes;
  private volatile @Nullable Save save;
  private volatile long newestWhenSaved;

  private HandedOverSaves(
      HandedOverGuests guests, GuestEvents events, PostcopyMetrics metrics, long bufferBytes) {
    this.guests = guests;
    this.events = events;
    this.metrics = metrics;
    this.bufferBytes = bufferBytes;
  }

  /**
   * Snapshots that tell the clients of an event sink.
   *
   * @param settings whether the capability {@code events} is on
   * @param bufferBytes how much a snapshot may have copied and not written yet
   */
  public static HandedOverSaves reportingTo(
      EventSink sink,
      MigrationSettings settings,
      HandedOverGuests guests,
      PostcopyMetrics metrics,
      long bufferBytes) {
    return new HandedOverSaves(guests, new QmpGuestEvents(sink, settings), metrics, bufferBytes);
  }

  /**
   * Begins one of the one guest that there is.
   *
   * @throws QmpException if there can be none; the target is given back then
   */
  void start(SaveTarget target) throws QmpException {
    try {
      if (isUnderWay()) {
        throw new QmpException(IN_PROGRESS);
      }
      Save next = new BackgroundSave(guests.guestToSave(), target, bufferBytes, metrics, this);
      newestWhenSaved = newestGuest();
      save = next;
      events.migration(MigrationStatus.SETUP);
      next.start();
    } catch (IOException e) {
      target.discard();
      throw new QmpException(String.valueOf(e.getMessage()));
    } catch (QmpException e) {
      target.discard();
      throw e;
    }
  }

  /** The one that was begun last, if no guest has come and no load was begun since. */
  @Nullable Save shown() {
    Save saved = save;
    return saved != null && (saved.isLive() || newestGuest() <= newestWhenSaved) ? saved : null;
  }

  private long newestGuest() {
    return guests.guestsSoFar().stream().mapToLong(GuestView::id).max().orElse(0);
  }

  boolean isUnderWay() {
    Save saving = save;
    return saving != null && saving.isLive();
  }

  /** Something else has been begun. */
  void forget() {
    save = null;
  }

  /** Cancels what is under way; false if nothing is. */
  boolean cancel() {
    Save saving = save;
    if (saving == null || !saving.isLive()) {
      return false;
    }
    saving.cancel();
    return true;
  }

  @Override
  public void stateChanged(SaveState state) {
    events.migration(MigrationViews.status(state));
    if (state instanceof SaveState.Ended) {
      metrics.migrationEnded(
          "outgoing", MigrationViews.status(state).name().toLowerCase(Locale.ROOT));
    }
  }

  /** Cancels what is under way, and waits a while for its end. */
  public void close() {
    Save saving = save;
    if (saving != null) {
      saving.cancel();
      try {
        if (!saving.awaitEnd(CLOSE)) {
          log.warn("gave up waiting for the end of a snapshot seconds={}", CLOSE.toSeconds());
        }
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }
  }
}
