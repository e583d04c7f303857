package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.Nullable;

/** Arguments of {@code remove-fd}; without {@code fd} the whole set goes. */
public record RemoveFdArguments(long fdsetId, @Nullable Long fd) {}
