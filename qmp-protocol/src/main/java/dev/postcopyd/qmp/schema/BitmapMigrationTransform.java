package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.Nullable;

/** What to change about a dirty bitmap on its way. */
public record BitmapMigrationTransform(@Nullable Boolean persistent) {}
