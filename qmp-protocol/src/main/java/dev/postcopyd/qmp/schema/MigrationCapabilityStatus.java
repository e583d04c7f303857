package dev.postcopyd.qmp.schema;

/** One capability, and whether it is on. */
public record MigrationCapabilityStatus(MigrationCapability capability, boolean state) {}
