package dev.postcopyd.qmp.schema;

/** A release number. */
public record VersionTriple(long major, long minor, long micro) {}
