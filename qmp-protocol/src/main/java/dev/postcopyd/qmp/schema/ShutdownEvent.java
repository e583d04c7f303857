package dev.postcopyd.qmp.schema;

/**
 * Data of the event {@code SHUTDOWN}.
 *
 * @param guest whether the guest asked for it
 */
public record ShutdownEvent(boolean guest, ShutdownCause reason) {}
