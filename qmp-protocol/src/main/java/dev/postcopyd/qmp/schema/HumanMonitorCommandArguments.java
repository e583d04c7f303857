package dev.postcopyd.qmp.schema;

import org.jspecify.annotations.Nullable;

/**
 * Arguments of {@code human-monitor-command}.
 *
 * @param cpuIndex which vCPU commands about one are for
 */
public record HumanMonitorCommandArguments(String commandLine, @Nullable Long cpuIndex) {}
