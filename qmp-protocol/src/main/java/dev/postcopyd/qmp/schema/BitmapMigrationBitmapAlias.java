package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.Nullable;

/** The name of a dirty bitmap in the stream. */
public record BitmapMigrationBitmapAlias(
    String name, String alias, @Nullable BitmapMigrationTransform transform) {}
