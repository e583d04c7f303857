package dev.postcopyd.qmp.schema;

import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Arguments of {@code migrate-incoming}: either a URI or channels.
 *
 * @param exitOnError whether the server ends if the load fails; absent leaves it to the server
 */
public record MigrateIncomingArguments(
    @Nullable String uri,
    @Nullable List<MigrationChannel> channels,
    @Nullable Boolean exitOnError) {}
