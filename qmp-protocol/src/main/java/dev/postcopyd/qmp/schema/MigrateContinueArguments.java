package dev.postcopyd.qmp.schema;

/**
 * Arguments of {@code migrate-continue}.
 *
 * @param state the state that the client believes the migration to be in
 */
public record MigrateContinueArguments(MigrationStatus state) {}
