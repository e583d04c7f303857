package dev.postcopyd.stream;

import dev.postcopyd.page.PageSize;

/**
 * A RAM block as the RAM list of a stream without mapped-ram has it.
 *
 * @param usedLengthBytes as it stands in the stream: not checked
 * @param hostPageSize what the receiver's block is backed by
 */
public record RamListEntry(String name, long usedLengthBytes, PageSize hostPageSize) {}
