package dev.postcopyd.control;

import dev.postcopyd.qmp.schema.MigrationStatus;

/**
 * What clients are told of a guest as it happens. Called in order, on any thread; returns at once.
 */
interface GuestEvents {
  /** Nobody is told anything. */
  GuestEvents NONE =
      new GuestEvents() {
        @Override
        public void migration(MigrationStatus status) {}

        @Override
        public void stopped() {}

        @Override
        public void resumed() {}
      };

  /** Event MIGRATION, for those who have switched on the capability {@code events}. */
  void migration(MigrationStatus status);

  /** Event STOP. */
  void stopped();

  /** Event RESUME. */
  void resumed();
}
