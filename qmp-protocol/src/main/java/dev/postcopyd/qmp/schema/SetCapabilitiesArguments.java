package dev.postcopyd.qmp.schema;

import java.util.List;

/** Arguments of {@code migrate-set-capabilities}; what is not named stays as it is. */
public record SetCapabilitiesArguments(List<MigrationCapabilityStatus> capabilities) {}
