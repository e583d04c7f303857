package dev.postcopyd.control;

import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.QmpCommands;
import org.jspecify.annotations.Nullable;

/** Binds the migration commands and those of the guest's run state to what carries them out. */
public final class MigrationCommands {
  private MigrationCommands() {}

  /** Registers the commands. */
  public static void register(
      CommandTable table, MigrationControl control, MigrationSettings settings) {
    registerSettings(table, control, settings);
    table.register(QmpCommands.QUERY_MIGRATE, (_, _) -> control.queryMigrate(settings.view()));
    table.register(
        QmpCommands.MIGRATE_INCOMING,
        (arguments, context) ->
            done(() -> control.migrateIncoming(arguments, settings.view(), context.descriptors())));
    table.register(
        QmpCommands.MIGRATE,
        (arguments, context) ->
            done(() -> control.migrate(arguments, settings.view(), context.descriptors())));
    table.register(QmpCommands.MIGRATE_CANCEL, (_, _) -> done(control::cancel));
    table.register(
        QmpCommands.MIGRATE_START_POSTCOPY,
        (_, _) -> done(() -> control.startPostcopy(settings.view())));
    table.register(
        QmpCommands.MIGRATE_CONTINUE,
        (arguments, _) -> done(() -> control.continueFrom(arguments.state())));
    table.register(QmpCommands.MIGRATE_PAUSE, (_, _) -> done(control::pause));
    table.register(
        QmpCommands.MIGRATE_RECOVER,
        (arguments, context) ->
            done(() -> control.recover(arguments.uri(), settings.view(), context.descriptors())));
    table.register(QmpCommands.STOP, (_, _) -> done(control::stop));
    table.register(QmpCommands.CONT, (_, _) -> done(control::cont));
    table.register(QmpCommands.QUERY_STATUS, (_, _) -> control.queryStatus());
  }

  private static void registerSettings(
      CommandTable table, MigrationControl control, MigrationSettings settings) {
    table.register(
        QmpCommands.MIGRATE_SET_CAPABILITIES,
        (arguments, _) -> done(() -> settings.setCapabilities(arguments.capabilities(), control)));
    table.register(
        QmpCommands.QUERY_MIGRATE_CAPABILITIES, (_, _) -> settings.view().capabilityList());
    table.register(
        QmpCommands.MIGRATE_SET_PARAMETERS,
        (arguments, _) -> done(() -> settings.setParameters(arguments, control)));
    table.register(QmpCommands.QUERY_MIGRATE_PARAMETERS, (_, _) -> settings.view().parameters());
  }

  /** An action that may be refused. */
  @FunctionalInterface
  private interface Action {
    void run() throws QmpException;
  }

  private static @Nullable Void done(Action action) throws QmpException {
    action.run();
    return null;
  }
}
