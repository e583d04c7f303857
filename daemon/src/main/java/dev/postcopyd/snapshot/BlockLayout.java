package dev.postcopyd.snapshot;

/**
 * Where a mapped-ram file keeps one block: absolute file offsets.
 *
 * @param headerOffsetBytes its mapped-ram header
 * @param bitmapOffsetBytes the bitmap of the stored pages
 * @param pagesOffsetBytes page 0
 */
public record BlockLayout(long headerOffsetBytes, long bitmapOffsetBytes, long pagesOffsetBytes) {}
