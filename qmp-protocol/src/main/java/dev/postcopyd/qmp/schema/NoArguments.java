package dev.postcopyd.qmp.schema;

/** The arguments of a command that takes none. */
public record NoArguments() {}
