package dev.postcopyd.qmp.schema;

/**
 * Data of the event {@code MIGRATION_PASS}.
 *
 * @param pass counts from 1
 */
public record MigrationPassEvent(long pass) {}
