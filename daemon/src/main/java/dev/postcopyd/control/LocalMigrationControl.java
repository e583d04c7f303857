package dev.postcopyd.control;

import dev.postcopyd.fds.FdSets;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.loader.Load;
import dev.postcopyd.posix.FileOpener;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrateArguments;
import dev.postcopyd.qmp.schema.MigrateIncomingArguments;
import dev.postcopyd.qmp.schema.MigrationAddress;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.qmp.schema.MigrationInfo;
import dev.postcopyd.qmp.schema.MigrationMode;
import dev.postcopyd.qmp.schema.MigrationParameters;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.StatusInfo;
import java.util.Optional;

/**
 * The migration commands for guests that have no monitor behind the daemon's: arguments become a
 * file and a mode, and {@link LocalMigrations} does the rest. What such a guest has no use for
 * (outgoing postcopy) is refused in QEMU's words for the state.
 */
final class LocalMigrationControl implements MigrationControl {
  private final LocalMigrations migrations;
  private final FdSets fdSets;
  private final TlsObjects tls;
  private final FileOpener opener;
  private final boolean exitOnError;

  /**
   * Makes the control.
   *
   * @param tls the credentials that clients can name
   * @param exitOnError what an absent exit-on-error means
   */
  LocalMigrationControl(
      LocalMigrations migrations,
      FdSets fdSets,
      TlsObjects tls,
      FileOpener opener,
      boolean exitOnError) {
    this.migrations = migrations;
    this.fdSets = fdSets;
    this.tls = tls;
    this.opener = opener;
    this.exitOnError = exitOnError;
  }

  @Override
  public MigrationInfo queryMigrate(MigrationSettings.View settings) {
    return MigrationStatusMapper.toInfo(
        migrations.view(), settings.isEnabled(MigrationCapability.POSTCOPY_BLOCKTIME));
  }

  @Override
  public boolean isUnderWay() {
    return migrations.isUnderWay();
  }

  /** Unlike QEMU, a load can be followed by another: only one that is under way counts. */
  @Override
  public boolean isIncomingStarted() {
    return migrations.isLoading();
  }

  @Override
  public void checkParameters(MigrationParameters wanted) throws QmpException {
    if (wanted.mode() != MigrationMode.NORMAL) {
      throw new QmpException(
          "Parameter mode="
              + wanted.mode().wireName()
              + " is not supported by postcopyd with the guest '"
              + migrations.loads().guestName()
              + "'");
    }
    if (!wanted.tlsAuthz().isEmpty()) {
      throw new QmpException("Parameter tls-authz is not supported by postcopyd");
    }
    if (!wanted.tlsCreds().isEmpty() && !migrations.loads().takesTls()) {
      throw new QmpException(
          "Parameter tls-creds is not supported by postcopyd with the guest '"
              + migrations.loads().guestName()
              + "'");
    }
  }

  @Override
  public void migrateIncoming(
      MigrateIncomingArguments arguments,
      MigrationSettings.View settings,
      NamedDescriptors descriptors)
      throws QmpException {
    boolean exits =
        (arguments.exitOnError() == null || migrations.loads().exitsByItself())
            ? exitOnError
            : arguments.exitOnError();
    MigrationAddress address = MigrationUri.of(arguments.uri(), arguments.channels());
    if (migrations.loads().receives() || MigrationUri.isSource(address, descriptors)) {
      migrations.startReception(
          new GuestLoads.Reception(tls.source(address, settings, descriptors), settings), exits);
    } else {
      migrations.startLoad(order(arguments, settings, descriptors), exits);
    }
  }

  @Override
  public void resumeIncoming(
      MigrateIncomingArguments arguments,
      MigrationSettings.View settings,
      NamedDescriptors descriptors)
      throws QmpException {
    migrations.resumeLoad(order(arguments, settings, descriptors));
  }

  private GuestLoads.Order order(
      MigrateIncomingArguments arguments,
      MigrationSettings.View settings,
      NamedDescriptors descriptors)
      throws QmpException {
    MigrationAddress address =
        MigrationFiles.resolve(MigrationUri.of(arguments.uri(), arguments.channels()), opener);
    requireMappedRam(settings, "load");
    Load.Mode mode =
        settings.isEnabled(MigrationCapability.POSTCOPY_RAM) ? Load.Mode.LAZY : Load.Mode.PLAIN;
    return new GuestLoads.Order(
        mode,
        MigrationUri.show(address),
        new MigrationFiles(descriptors, fdSets, opener)
            .toRead(address)
            .direct(settings.parameters().directIo()),
        settings,
        descriptors,
        Optional.ofNullable(arguments.exitOnError()));
  }

  @Override
  public void migrate(
      MigrateArguments arguments, MigrationSettings.View settings, NamedDescriptors descriptors)
      throws QmpException {
    MigrationAddress address =
        MigrationFiles.resolve(MigrationUri.of(arguments.uri(), arguments.channels()), opener);
    if (Boolean.TRUE.equals(arguments.resume())) {
      throw new QmpException("Cannot resume if there is no paused migration");
    }
    requireMappedRam(settings, "save");
    migrations.startSave(
        new MigrationFiles(descriptors, fdSets, opener)
            .toWrite(address)
            .direct(settings.parameters().directIo()),
        settings.isEnabled(MigrationCapability.BACKGROUND_SNAPSHOT));
  }

  private static void requireMappedRam(MigrationSettings.View settings, String what)
      throws QmpException {
    if (!settings.isEnabled(MigrationCapability.MAPPED_RAM)) {
      throw new QmpException(
          "postcopyd can "
              + what
              + " only with the capability mapped-ram: switch it on with migrate-set-capabilities");
    }
  }

  @Override
  public void cancel() throws QmpException {
    migrations.cancel();
  }

  @Override
  public void startPostcopy(MigrationSettings.View settings) throws QmpException {
    throw new QmpException(
        settings.isEnabled(MigrationCapability.POSTCOPY_RAM)
            ? "Postcopy must be started after migration has been started"
            : "Enable postcopy with migrate_set_capability before the start of migration");
  }

  /** As in QEMU, naming the state that holds is no error, though nothing here waits in one. */
  @Override
  public void continueFrom(MigrationStatus expected) throws QmpException {
    MigrationStatus status = migrations.status();
    if (status != expected) {
      throw new QmpException("Migration not in expected state: " + status.wireName());
    }
  }

  @Override
  public void pause() throws QmpException {
    migrations.pause();
  }

  @Override
  public void recover(String uri, MigrationSettings.View settings, NamedDescriptors descriptors)
      throws QmpException {
    // Other guests' credentials are not ours to know: a QEMU's are its own.
    migrations.recover(
        uri, descriptors, migrations.loads().takesTls() ? tls.named(settings) : Optional.empty());
  }

  @Override
  public void stop() throws QmpException {
    requireOurGuest("stop");
    migrations.runState().stop();
  }

  @Override
  public void cont() throws QmpException {
    requireOurGuest("cont");
    migrations.runState().cont();
  }

  private void requireOurGuest(String command) throws QmpException {
    if (!migrations.loads().isOurs()) {
      throw new QmpException(
          command
              + ": the guest '"
              + migrations.loads().guestName()
              + "' is not postcopyd's: use its own monitor");
    }
  }

  @Override
  public StatusInfo queryStatus() {
    return new StatusInfo(migrations.runState().isRunning(), migrations.runState().state());
  }
}
