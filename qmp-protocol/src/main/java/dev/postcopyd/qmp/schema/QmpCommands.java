package dev.postcopyd.qmp.schema;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** The commands that the daemon knows by itself, as QEMU 10.0 declares them. */
public final class QmpCommands {
  public static final CommandSpec<NegotiationArguments, @Nullable Void> QMP_CAPABILITIES =
      CommandSpec.of("qmp_capabilities", NegotiationArguments.class);
  public static final CommandSpec<NoArguments, VersionInfo> QUERY_VERSION =
      CommandSpec.of("query-version", NoArguments.class, VersionInfo.class);
  public static final CommandSpec<NoArguments, List<CommandInfo>> QUERY_COMMANDS =
      CommandSpec.listing("query-commands", NoArguments.class, CommandInfo.class);
  public static final CommandSpec<NoArguments, List<SchemaInfo>> QUERY_QMP_SCHEMA =
      CommandSpec.listing("query-qmp-schema", NoArguments.class, SchemaInfo.class);
  public static final CommandSpec<NoArguments, StatusInfo> QUERY_STATUS =
      CommandSpec.of("query-status", NoArguments.class, StatusInfo.class);
  public static final CommandSpec<NoArguments, NameInfo> QUERY_NAME =
      CommandSpec.of("query-name", NoArguments.class, NameInfo.class);
  public static final CommandSpec<NoArguments, UuidInfo> QUERY_UUID =
      CommandSpec.of("query-uuid", NoArguments.class, UuidInfo.class);
  public static final CommandSpec<NoArguments, TargetInfo> QUERY_TARGET =
      CommandSpec.of("query-target", NoArguments.class, TargetInfo.class);

  public static final CommandSpec<NoArguments, MigrationInfo> QUERY_MIGRATE =
      CommandSpec.of("query-migrate", NoArguments.class, MigrationInfo.class);
  public static final CommandSpec<SetCapabilitiesArguments, @Nullable Void>
      MIGRATE_SET_CAPABILITIES =
          CommandSpec.of("migrate-set-capabilities", SetCapabilitiesArguments.class);
  public static final CommandSpec<NoArguments, List<MigrationCapabilityStatus>>
      QUERY_MIGRATE_CAPABILITIES =
          CommandSpec.listing(
              "query-migrate-capabilities", NoArguments.class, MigrationCapabilityStatus.class);
  public static final CommandSpec<MigrateSetParameters, @Nullable Void> MIGRATE_SET_PARAMETERS =
      CommandSpec.of("migrate-set-parameters", MigrateSetParameters.class);
  public static final CommandSpec<NoArguments, MigrationParameters> QUERY_MIGRATE_PARAMETERS =
      CommandSpec.of("query-migrate-parameters", NoArguments.class, MigrationParameters.class);
  public static final CommandSpec<MigrateIncomingArguments, @Nullable Void> MIGRATE_INCOMING =
      CommandSpec.of("migrate-incoming", MigrateIncomingArguments.class);
  public static final CommandSpec<MigrateArguments, @Nullable Void> MIGRATE =
      CommandSpec.of("migrate", MigrateArguments.class);
  public static final CommandSpec<NoArguments, @Nullable Void> MIGRATE_CANCEL =
      CommandSpec.of("migrate_cancel", NoArguments.class);
  public static final CommandSpec<NoArguments, @Nullable Void> MIGRATE_START_POSTCOPY =
      CommandSpec.of("migrate-start-postcopy", NoArguments.class);
  public static final CommandSpec<MigrateContinueArguments, @Nullable Void> MIGRATE_CONTINUE =
      CommandSpec.of("migrate-continue", MigrateContinueArguments.class);
  public static final CommandSpec<NoArguments, @Nullable Void> MIGRATE_PAUSE =
      CommandSpec.of("migrate-pause", NoArguments.class).withOob();
  public static final CommandSpec<MigrateRecoverArguments, @Nullable Void> MIGRATE_RECOVER =
      CommandSpec.of("migrate-recover", MigrateRecoverArguments.class).withOob();

  public static final CommandSpec<NoArguments, @Nullable Void> STOP =
      CommandSpec.of("stop", NoArguments.class);
  public static final CommandSpec<NoArguments, @Nullable Void> CONT =
      CommandSpec.of("cont", NoArguments.class);
  public static final CommandSpec<NoArguments, @Nullable Void> QUIT =
      CommandSpec.of("quit", NoArguments.class);
  public static final CommandSpec<HumanMonitorCommandArguments, String> HUMAN_MONITOR_COMMAND =
      CommandSpec.of("human-monitor-command", HumanMonitorCommandArguments.class, String.class);

  public static final CommandSpec<FdNameArguments, @Nullable Void> GETFD =
      CommandSpec.of("getfd", FdNameArguments.class);
  public static final CommandSpec<FdNameArguments, @Nullable Void> CLOSEFD =
      CommandSpec.of("closefd", FdNameArguments.class);
  public static final CommandSpec<AddFdArguments, AddFdInfo> ADD_FD =
      CommandSpec.of("add-fd", AddFdArguments.class, AddFdInfo.class);
  public static final CommandSpec<RemoveFdArguments, @Nullable Void> REMOVE_FD =
      CommandSpec.of("remove-fd", RemoveFdArguments.class);
  public static final CommandSpec<NoArguments, List<FdsetInfo>> QUERY_FDSETS =
      CommandSpec.listing("query-fdsets", NoArguments.class, FdsetInfo.class);

  static final List<CommandSpec<?, ?>> ALL =
      List.of(
          QMP_CAPABILITIES,
          QUERY_VERSION,
          QUERY_COMMANDS,
          QUERY_QMP_SCHEMA,
          QUERY_STATUS,
          QUERY_NAME,
          QUERY_UUID,
          QUERY_TARGET,
          QUERY_MIGRATE,
          MIGRATE_SET_CAPABILITIES,
          QUERY_MIGRATE_CAPABILITIES,
          MIGRATE_SET_PARAMETERS,
          QUERY_MIGRATE_PARAMETERS,
          MIGRATE_INCOMING,
          MIGRATE,
          MIGRATE_CANCEL,
          MIGRATE_START_POSTCOPY,
          MIGRATE_CONTINUE,
          MIGRATE_PAUSE,
          MIGRATE_RECOVER,
          STOP,
          CONT,
          QUIT,
          HUMAN_MONITOR_COMMAND,
          GETFD,
          CLOSEFD,
          ADD_FD,
          REMOVE_FD,
          QUERY_FDSETS);

  private QmpCommands() {}
}
