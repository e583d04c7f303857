package dev.postcopyd.control;

import dev.postcopyd.fds.FdSets;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.guest.QemuReadiness;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.NegotiationArguments;
import dev.postcopyd.qmp.schema.QmpCapability;
import dev.postcopyd.qmp.schema.QmpCommands;
import org.jspecify.annotations.Nullable;

/**
 * Puts the daemon's QMP sockets in the place of a QEMU's: every command that is not the daemon's
 * own goes to QEMU as it came, and QEMU's events go to every client.
 *
 * <p>All clients share one session with QEMU; see {@link MonitorDescriptors} for what they must not
 * share, and {@link MonitorMigrationCommands} for what is the daemon's own.
 */
public final class MonitorProxy {
  private final MonitorMigrationCommands migrations;

  private MonitorProxy(MonitorMigrationCommands migrations) {
    this.migrations = migrations;
  }

  /**
   * Registers every command and listens to QEMU; before the server and the monitor are started.
   *
   * @param server whose table this is
   * @param readiness what is done when clients have set the capabilities of a load
   * @param fdSets the daemon's, kept in step with QEMU's
   * @param settings where clients' migration settings are kept, in step with QEMU's
   * @param loads the loads that the daemon carries out by itself
   */
  public static MonitorProxy register(
      CommandTable table,
      QmpServer server,
      QemuMonitor monitor,
      QemuReadiness readiness,
      FdSets fdSets,
      MigrationSettings settings,
      MigrationControl loads) {
    MonitorDescriptors descriptors = new MonitorDescriptors(monitor, fdSets);
    MonitorMigrationCommands migrations =
        new MonitorMigrationCommands(monitor, readiness, descriptors, settings, loads);
    table.register(
        QmpCommands.QMP_CAPABILITIES,
        (arguments, context) -> negotiate(arguments, context, monitor));
    descriptors.register(table);
    migrations.register(table);
    new MonitorHumanCommands(migrations, descriptors).register(table);
    MonitorIntrospection.register(table, monitor);
    table.otherwise(descriptors::pass);
    monitor.addListener(descriptors);
    monitor.addListener(migrations);
    monitor.addListener(new MonitorEvents(server, migrations::isConsumed));
    return new MonitorProxy(migrations);
  }

  /**
   * Goes on with a load that an earlier daemon has begun; returns before that has come far.
   *
   * @param noted whether that daemon has noted down that this QEMU was in one: then it need not be
   *     able to say so
   * @return false if this QEMU is not in the middle of one
   */
  public boolean goOnWith(String uri, boolean noted) throws QmpException {
    try (NamedDescriptors none = new NamedDescriptors()) {
      return migrations.goOnWith(uri, noted, none);
    }
  }

  /** The same for a QEMU that can't be asked, because it waits for that load. */
  public void goOnWithoutAsking(String uri) throws QmpException {
    try (NamedDescriptors none = new NamedDescriptors()) {
      migrations.goOnWithoutAsking(uri, none);
    }
  }

  /**
   * Loads a snapshot without being asked by a client, with both capabilities, unless this QEMU has
   * completed a load already. Waits until the file is open.
   */
  public void loadAtOnce(String uri) throws QmpException {
    try (NamedDescriptors none = new NamedDescriptors()) {
      migrations.loadAtOnce(uri, none);
    }
  }

  /** As without a QEMU, but nothing is promised that this QEMU cannot keep. */
  private static @Nullable Void negotiate(
      NegotiationArguments arguments, CommandContext context, QemuMonitor monitor)
      throws QmpException {
    boolean wantsOob = arguments.enable() != null && arguments.enable().contains(QmpCapability.OOB);
    if (wantsOob && monitor.session().map(session -> !session.oob()).orElse(false)) {
      throw new QmpException("Capability oob not available");
    }
    return ControlCommands.negotiate(arguments, context);
  }
}
