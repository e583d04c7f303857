package dev.postcopyd.qmp.schema;

/**
 * Answer of {@code query-status}.
 *
 * @param running whether vCPUs run
 */
public record StatusInfo(boolean running, RunState status) {}
