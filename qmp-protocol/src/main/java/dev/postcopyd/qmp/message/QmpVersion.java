package dev.postcopyd.qmp.message;

/**
 * The version that a server greets with.
 *
 * @param major QEMU's major release number
 * @param minor QEMU's minor release number
 * @param micro QEMU's micro release number
 * @param packageName what the packager calls this build; may be empty, never absent, because
 *     clients strip it without asking
 */
public record QmpVersion(int major, int minor, int micro, String packageName) {}
