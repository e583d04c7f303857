package dev.postcopyd.incoming;

/**
 * What has become of a load's RAM so far, in bytes.
 *
 * @param dataBytes of pages that came with data, every time that one came
 * @param zeroBytes of zero pages, likewise
 * @param remainingBytes of pages that have not come yet
 * @param transferredBytes what has gone over the wire, or been read
 * @param requests pages that somebody had to wait for
 */
public record RamFigures(
    long totalBytes,
    long dataBytes,
    long zeroBytes,
    long remainingBytes,
    long transferredBytes,
    long requests) {}
