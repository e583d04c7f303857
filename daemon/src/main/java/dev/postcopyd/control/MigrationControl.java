package dev.postcopyd.control;

import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrateArguments;
import dev.postcopyd.qmp.schema.MigrateIncomingArguments;
import dev.postcopyd.qmp.schema.MigrationInfo;
import dev.postcopyd.qmp.schema.MigrationParameters;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.StatusInfo;

/**
 * What the migration commands command: the side that loads and saves.
 *
 * <p>Called by the dispatcher's thread, and for {@link #pause} and {@link #recover} by the I/O
 * thread, too, where nothing may wait. Every refusal is a {@link QmpException} with QEMU's text.
 */
public interface MigrationControl {
  /** The answer of {@code query-migrate}. */
  MigrationInfo queryMigrate(MigrationSettings.View settings) throws QmpException;

  /** Whether a migration is under way, so that capabilities must stay as they are. */
  boolean isUnderWay();

  /** Whether an incoming migration has been begun, so that its channels must stay as they are. */
  boolean isIncomingStarted();

  /** Refuses parameters that this daemon cannot honour; called when QEMU's rules have passed. */
  void checkParameters(MigrationParameters wanted) throws QmpException;

  /**
   * Begins a load.
   *
   * @param descriptors the client's own, for {@code fd:} addresses
   */
  void migrateIncoming(
      MigrateIncomingArguments arguments,
      MigrationSettings.View settings,
      NamedDescriptors descriptors)
      throws QmpException;

  /**
   * Goes on with a load that an earlier daemon has begun, and whose guest has begun to run.
   *
   * @throws QmpException also if this kind of guest can't be gone on with
   */
  default void resumeIncoming(
      MigrateIncomingArguments arguments,
      MigrationSettings.View settings,
      NamedDescriptors descriptors)
      throws QmpException {
    throw new QmpException("there is no load that could be gone on with");
  }

  /**
   * Begins a save.
   *
   * @param descriptors the client's own, for {@code fd:} addresses
   */
  void migrate(
      MigrateArguments arguments, MigrationSettings.View settings, NamedDescriptors descriptors)
      throws QmpException;

  void cancel() throws QmpException;

  void startPostcopy(MigrationSettings.View settings) throws QmpException;

  /**
   * Goes on from a state in which the migration waits.
   *
   * @param expected the state that the client believes it to be in
   */
  void continueFrom(MigrationStatus expected) throws QmpException;

  void pause() throws QmpException;

  /**
   * Makes a paused load go on.
   *
   * @param descriptors the client's own, for {@code fd:} addresses
   */
  void recover(String uri, MigrationSettings.View settings, NamedDescriptors descriptors)
      throws QmpException;

  void stop() throws QmpException;

  void cont() throws QmpException;

  /** The answer of {@code query-status}. */
  StatusInfo queryStatus();
}
