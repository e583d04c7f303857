package dev.postcopyd.control;

import dev.postcopyd.fds.DescriptorException;
import dev.postcopyd.fds.FdSets;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.guest.StreamAddress;
import dev.postcopyd.guest.StreamDestination;
import dev.postcopyd.incoming.LoadTrace;
import dev.postcopyd.incoming.PageHandlerFactory;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.incoming.SnapshotLocation;
import dev.postcopyd.incoming.StreamContext;
import dev.postcopyd.incoming.StreamMigration;
import dev.postcopyd.loader.Load;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.posix.FileOpener;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.tls.TlsCredentials;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.util.Optional;
import java.util.function.LongSupplier;

/**
 * Loads into a migration destination that somebody else drives.
 *
 * @param address where it waits
 * @param options what the command line says about it
 * @param tls with what the connection is encrypted, if it is
 * @param warmUp returns when the daemon is warmed up
 * @param bytesPerSecond max-postcopy-bandwidth as it is now
 * @param workingSet where the working sets of snapshots are kept
 */
public record StreamLoads(
    StreamAddress address,
    StreamDestination.Options options,
    Optional<TlsCredentials> tls,
    Loader loader,
    PostcopyMetrics metrics,
    PageHandlerFactory handlers,
    Runnable warmUp,
    LongSupplier bytesPerSecond,
    WorkingSetChoice workingSet,
    LoadTrace trace)
    implements GuestLoads {
  @Override
  public String guestName() {
    return "stream";
  }

  @Override
  public boolean isOurs() {
    return false;
  }

  @Override
  public SnapshotLoad create(Order order) throws QmpException {
    if (order.mode() != Load.Mode.LAZY) {
      throw new QmpException(
          "the guest 'stream' can be loaded only with the capability postcopy-ram: switch it on with migrate-set-capabilities");
    }
    StreamAddress to = address;
    if (address instanceof StreamAddress.Named(String name)) {
      try {
        to = new StreamAddress.Connected(order.descriptors().take(name));
      } catch (DescriptorException e) {
        throw new QmpException(String.valueOf(e.getMessage()));
      }
    }
    return new StreamMigration(
        order.uri(),
        order.location(),
        context(to, order.settings().isEnabled(MigrationCapability.POSTCOPY_PREEMPT)));
  }

  @Override
  public String recoveryAddress(String uri, NamedDescriptors descriptors) throws QmpException {
    return RecoveryAddress.of(uri, descriptors);
  }

  @Override
  public void discardRecoveryAddress(String address) {
    RecoveryAddress.discard(address);
  }

  /**
   * A load that an earlier daemon has begun.
   *
   * @throws QmpException if its snapshot has no usable path
   */
  public SnapshotLoad begunBefore(LoadTrace.Trace begun, FdSets fdSets) throws QmpException {
    try (NamedDescriptors none = new NamedDescriptors()) {
      SnapshotLocation location =
          new MigrationFiles(none, fdSets, FileOpener.ANYWHERE)
              .toRead(MigrationUri.parse(begun.snapshotUri()));
      return StreamMigration.begunBefore(
          begun.snapshotUri(), location, context(address, begun.preempt()), Optional.of(begun));
    }
  }

  private StreamContext context(StreamAddress to, boolean preempt) {
    return new StreamContext(
        loader,
        metrics,
        new StreamDestination(to, options, tls),
        handlers,
        warmUp,
        preempt,
        options.eager(),
        bytesPerSecond,
        workingSet,
        trace);
  }
}
