package dev.postcopyd.control;

import dev.postcopyd.guest.QemuDestination;
import dev.postcopyd.guest.QemuOptions;
import dev.postcopyd.guest.QemuReadiness;
import dev.postcopyd.incoming.LoadTrace;
import dev.postcopyd.incoming.PageHandlerFactory;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.incoming.StreamContext;
import dev.postcopyd.incoming.StreamMigration;
import dev.postcopyd.loader.Load;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.FileMigrationAddress;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.util.Optional;
import java.util.function.LongSupplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Loads into a stock QEMU that the daemon drives through its monitor.
 *
 * @param readiness what is done before a load is commanded
 * @param options what the command line says about it
 * @param warmUp returns when the daemon is warmed up
 * @param bytesPerSecond max-postcopy-bandwidth as it is now
 * @param workingSet where the working sets of snapshots are kept
 */
public record QemuLoads(
    QemuMonitor monitor,
    QemuReadiness readiness,
    QemuOptions options,
    Loader loader,
    PostcopyMetrics metrics,
    PageHandlerFactory handlers,
    Runnable warmUp,
    LongSupplier bytesPerSecond,
    WorkingSetChoice workingSet,
    LoadTrace trace)
    implements GuestLoads {
  private static final Logger log = LoggerFactory.getLogger(QemuLoads.class);

  @Override
  public String guestName() {
    return "qemu";
  }

  @Override
  public boolean isOurs() {
    return false;
  }

  /** It is QEMU that exits, or not. */
  @Override
  public boolean exitsByItself() {
    return true;
  }

  @Override
  public SnapshotLoad create(Order order) throws QmpException {
    if (order.mode() != Load.Mode.LAZY) {
      throw new QmpException(
          "the guest 'qemu' is loaded by postcopyd only with the capability postcopy-ram: switch it on with migrate-set-capabilities");
    }
    return new StreamMigration(order.uri(), order.location(), context(order, Optional.empty()));
  }

  /** Whatever names the snapshot, it has to be the one that the guest was started from. */
  @Override
  public SnapshotLoad goOn(Order order) throws QmpException {
    Optional<LoadTrace.Trace> begun = trace.find();
    if (begun.isPresent()) {
      long offsetBytes = offsetOf(begun.get());
      if (offsetBytes != order.location().offsetBytes()) {
        throw new QmpException(
            order.uri()
                + " is not the snapshot that the guest was started from: that is "
                + begun.get().snapshotUri());
      }
    } else {
      log.warn(
          "nothing tells whether the guest was started from this snapshot snapshot={}",
          order.uri());
    }
    return StreamMigration.begunBefore(order.uri(), order.location(), context(order, begun), begun);
  }

  private static long offsetOf(LoadTrace.Trace begun) throws QmpException {
    return MigrationUri.parse(begun.snapshotUri()) instanceof FileMigrationAddress file
        ? file.offset()
        : 0;
  }

  private StreamContext context(Order order, Optional<LoadTrace.Trace> begun) {
    // A second channel wherever QEMU has it: there is nothing to lose by it.
    boolean preemptWanted = true;
    return new StreamContext(
        loader,
        metrics,
        new QemuDestination(
            monitor,
            readiness,
            options.withExitOnError(order.exitOnError().orElse(false)),
            begun.map(LoadTrace.Trace::terms)),
        handlers,
        warmUp,
        preemptWanted,
        true,
        () ->
            bytesPerSecond.getAsLong() > 0 ? bytesPerSecond.getAsLong() : options.bytesPerSecond(),
        workingSet,
        trace);
  }
}
