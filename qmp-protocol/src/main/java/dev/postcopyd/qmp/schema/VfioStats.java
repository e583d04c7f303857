package dev.postcopyd.qmp.schema;

/** How many bytes of VFIO devices' state were transferred. */
public record VfioStats(long transferred) {}
