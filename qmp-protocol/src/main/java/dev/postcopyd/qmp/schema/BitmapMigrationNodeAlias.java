package dev.postcopyd.qmp.schema;

import java.util.List;

/** The name of a block node in the stream, and of its dirty bitmaps. */
public record BitmapMigrationNodeAlias(
    String nodeName, String alias, List<BitmapMigrationBitmapAlias> bitmaps) {}
