package dev.postcopyd.qmp.schema;

/** Arguments of {@code getfd} and {@code closefd}. */
public record FdNameArguments(String fdname) {}
