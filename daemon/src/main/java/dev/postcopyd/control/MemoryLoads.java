package dev.postcopyd.control;

import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.incoming.IncomingContext;
import dev.postcopyd.incoming.IncomingMigration;
import dev.postcopyd.incoming.MemoryLayout;
import dev.postcopyd.incoming.MemoryReception;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.tls.TlsCredentials;
import java.util.Optional;

/**
 * Loads into the daemon's own memory: from a snapshot, or from a migration source.
 *
 * @param tls with what sources are to encrypt, if no client says otherwise
 */
public record MemoryLoads(IncomingContext context, Optional<TlsCredentials> tls)
    implements GuestLoads {
  @Override
  public String guestName() {
    return "memory";
  }

  @Override
  public boolean isOurs() {
    return true;
  }

  @Override
  public boolean takesTls() {
    return true;
  }

  /** The load takes the descriptor over. */
  @Override
  public String recoveryAddress(String uri, NamedDescriptors descriptors) throws QmpException {
    return RecoveryAddress.of(uri, descriptors);
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
    return new MemoryReception(
        reception.address().securedIfPlain(tls), wanted(reception.settings()), context);
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
