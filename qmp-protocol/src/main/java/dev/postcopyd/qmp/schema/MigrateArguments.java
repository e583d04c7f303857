package dev.postcopyd.qmp.schema;

import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Arguments of {@code migrate}: either a URI or channels.
 *
 * @param detach without meaning; clients send it all the same
 * @param resume whether a paused migration is to go on
 */
public record MigrateArguments(
    @Nullable String uri,
    @Nullable List<MigrationChannel> channels,
    @Nullable Boolean detach,
    @Nullable Boolean resume) {}
