package dev.postcopyd.qmp.schema;

/** One entry of {@code query-commands}. */
public record CommandInfo(String name) {}
