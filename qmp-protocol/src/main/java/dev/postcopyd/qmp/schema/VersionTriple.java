package dev.postcopyd.qmp.schema;

/** A release number; in the order in which QEMU sends it. */
public record VersionTriple(long micro, long minor, long major) {}
