package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.Nullable;

/**
 * Arguments of {@code add-fd}.
 *
 * @param fdsetId the set to add to; absent makes a new one
 * @param opaque what the client wants to find with the descriptor later
 */
public record AddFdArguments(@Nullable Long fdsetId, @Nullable String opaque) {}
