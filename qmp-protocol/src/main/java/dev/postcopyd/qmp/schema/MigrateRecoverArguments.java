package dev.postcopyd.qmp.schema;

/** Arguments of {@code migrate-recover}. */
public record MigrateRecoverArguments(String uri) {}
