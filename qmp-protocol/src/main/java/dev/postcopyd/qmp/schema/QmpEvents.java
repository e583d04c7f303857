package dev.postcopyd.qmp.schema;

import java.util.List;

/** The events that the daemon sends. */
public final class QmpEvents {
  public static final EventSpec<MigrationEvent> MIGRATION =
      EventSpec.of("MIGRATION", MigrationEvent.class);
  public static final EventSpec<MigrationPassEvent> MIGRATION_PASS =
      EventSpec.of("MIGRATION_PASS", MigrationPassEvent.class);
  public static final EventSpec<NoArguments> STOP = EventSpec.of("STOP", NoArguments.class);
  public static final EventSpec<NoArguments> RESUME = EventSpec.of("RESUME", NoArguments.class);
  public static final EventSpec<ShutdownEvent> SHUTDOWN =
      EventSpec.of("SHUTDOWN", ShutdownEvent.class);

  static final List<EventSpec<?>> ALL = List.of(MIGRATION, MIGRATION_PASS, STOP, RESUME, SHUTDOWN);

  private QmpEvents() {}
}
