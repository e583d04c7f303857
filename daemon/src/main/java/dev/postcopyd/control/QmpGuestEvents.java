package dev.postcopyd.control;

import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.qmp.schema.MigrationEvent;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.NoArguments;
import dev.postcopyd.qmp.schema.QmpEvents;

/** Tells all clients of the guest, of the migration only while the capability is on. */
final class QmpGuestEvents implements GuestEvents {
  private final EventSink events;
  private final MigrationSettings settings;

  QmpGuestEvents(EventSink events, MigrationSettings settings) {
    this.events = events;
    this.settings = settings;
  }

  @Override
  public void migration(MigrationStatus status) {
    if (settings.view().isEnabled(MigrationCapability.EVENTS)) {
      events.emit(QmpEvents.MIGRATION, new MigrationEvent(status));
    }
  }

  @Override
  public void stopped() {
    events.emit(QmpEvents.STOP, new NoArguments());
  }

  @Override
  public void resumed() {
    events.emit(QmpEvents.RESUME, new NoArguments());
  }
}
