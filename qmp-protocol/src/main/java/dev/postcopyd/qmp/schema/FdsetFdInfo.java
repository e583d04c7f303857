package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.Nullable;

/** One descriptor of a set. */
public record FdsetFdInfo(long fd, @Nullable String opaque) {}
