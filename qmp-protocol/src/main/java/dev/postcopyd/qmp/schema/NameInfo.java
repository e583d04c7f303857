package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.Nullable;

/** Answer of {@code query-name}; the name is absent if the guest has none. */
public record NameInfo(@Nullable String name) {}
