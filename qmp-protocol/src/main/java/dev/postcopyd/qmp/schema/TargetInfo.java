package dev.postcopyd.qmp.schema;

/** Answer of {@code query-target}. */
public record TargetInfo(SysEmuTarget arch) {}
