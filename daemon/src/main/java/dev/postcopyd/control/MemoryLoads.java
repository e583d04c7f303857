package dev.postcopyd.control;

import dev.postcopyd.incoming.IncomingContext;
import dev.postcopyd.incoming.IncomingMigration;
import dev.postcopyd.incoming.MemoryLayout;
import dev.postcopyd.incoming.MemoryReception;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrationCapability;

/** Loads into the daemon's own memory: from a snapshot, or from a migration source. */
public record MemoryLoads(IncomingContext context) implements GuestLoads {
  @Override
  public String guestName() {
    return "memory";
  }

  @Override
  public boolean isOurs() {
    return true;
  }

  @Override
  public SnapshotLoad create(Order order) {
    return new IncomingMigration(order.mode(), order.uri(), order.location(), context);
  }

  @Override
  public SnapshotLoad receive(Reception reception) throws QmpException {
    if (!context.layout().equals(MemoryLayout.BASE_PAGES)) {
      throw new QmpException(
          "a migration is received into pages of 4 KiB: leave page-size out of --guest memory");
    }
    return new MemoryReception(reception.address(), wanted(reception.settings()), context);
  }

  /** What a client's settings say of a migration that comes in. */
  static MemoryReception.Wanted wanted(MigrationSettings.View settings) {
    return new MemoryReception.Wanted(
        settings.isEnabled(MigrationCapability.MULTIFD)
            ? Math.toIntExact(settings.parameters().multifdChannels())
            : 0,
        settings.isEnabled(MigrationCapability.POSTCOPY_RAM),
        settings.isEnabled(MigrationCapability.POSTCOPY_PREEMPT));
  }
}
