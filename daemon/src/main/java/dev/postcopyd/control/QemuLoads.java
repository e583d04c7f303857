package dev.postcopyd.control;

import dev.postcopyd.guest.QemuDestination;
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
import dev.postcopyd.workingset.WorkingSetChoice;
import java.util.function.LongSupplier;

/**
 * Loads into a stock QEMU that the daemon drives through its monitor.
 *
 * @param options what the command line says about it
 * @param warmUp returns when the daemon is warmed up
 * @param bytesPerSecond max-postcopy-bandwidth as it is now
 * @param workingSet where the working sets of snapshots are kept
 */
public record QemuLoads(
    QemuMonitor monitor,
    QemuDestination.Options options,
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
    // A second channel wherever QEMU has it: there is nothing to lose by it.
    boolean preemptWanted = true;
    return new StreamMigration(
        order.uri(),
        order.location(),
        new StreamContext(
            loader,
            metrics,
            new QemuDestination(
                monitor, options.withExitOnError(order.exitOnError().orElse(false))),
            handlers,
            warmUp,
            preemptWanted,
            bytesPerSecond,
            workingSet,
            trace));
  }
}
