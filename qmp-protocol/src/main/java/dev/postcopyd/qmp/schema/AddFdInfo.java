package dev.postcopyd.qmp.schema;

/**
 * Answer of {@code add-fd}.
 *
 * @param fd the descriptor's number in the server
 */
public record AddFdInfo(long fdsetId, long fd) {}
