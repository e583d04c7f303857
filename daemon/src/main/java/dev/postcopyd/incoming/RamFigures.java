package dev.postcopyd.incoming;

import dev.postcopyd.source.Traffic;

/**
 * What has become of a load's RAM so far, in bytes.
 *
 * @param dataBytes of pages that came with data, every time that one came
 * @param zeroBytes of zero pages, likewise
 * @param remainingBytes of pages that have not come yet
 * @param transferredBytes what has gone over the wire, or been read
 * @param requests pages that somebody had to wait for
 * @param traffic of a migration source, if one has sent them
 */
public record RamFigures(
    long totalBytes,
    long dataBytes,
    long zeroBytes,
    long remainingBytes,
    long transferredBytes,
    long requests,
    Traffic traffic) {
  /** Without a migration source. */
  public RamFigures(
      long totalBytes,
      long dataBytes,
      long zeroBytes,
      long remainingBytes,
      long transferredBytes,
      long requests) {
    this(
        totalBytes, dataBytes, zeroBytes, remainingBytes, transferredBytes, requests, Traffic.NONE);
  }

  /** What a migration source has sent. */
  static RamFigures ofSource(
      long totalBytes,
      long dataBytes,
      long zeroBytes,
      long remainingBytes,
      long requests,
      Traffic traffic) {
    return new RamFigures(
        totalBytes, dataBytes, zeroBytes, remainingBytes, traffic.bytes(), requests, traffic);
  }

  /** Of two guests together. */
  public RamFigures plus(RamFigures other) {
    return new RamFigures(
        totalBytes + other.totalBytes,
        dataBytes + other.dataBytes,
        zeroBytes + other.zeroBytes,
        remainingBytes + other.remainingBytes,
        transferredBytes + other.transferredBytes,
        requests + other.requests,
        traffic.plus(other.traffic));
  }
}
