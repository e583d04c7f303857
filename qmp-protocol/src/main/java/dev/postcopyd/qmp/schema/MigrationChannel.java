package dev.postcopyd.qmp.schema;

/** One channel of a migration. */
public record MigrationChannel(MigrationChannelType channelType, MigrationAddress addr) {}
