package dev.postcopyd.qmp.schema;

/** Arguments of {@code object-del}. */
public record ObjectDelArguments(String id) {}
