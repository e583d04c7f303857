package dev.postcopyd.qmp.schema;

/** Data of the event {@code MIGRATION}. */
public record MigrationEvent(MigrationStatus status) {}
