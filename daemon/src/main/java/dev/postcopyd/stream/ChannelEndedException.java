package dev.postcopyd.stream;

import java.io.IOException;

/**
 * The connection has ended where more was due. Not malformed: a peer that has died, a network that
 * has gone, or, at the end of a stream without return path, simply the end.
 */
public final class ChannelEndedException extends IOException {
  private final boolean betweenRecords;

  /**
   * @param what was due
   * @param betweenRecords whether not even its first byte has come
   */
  ChannelEndedException(String what, long offsetBytes, boolean betweenRecords) {
    super(
        "the connection ended "
            + (betweenRecords ? "before " : "in the middle of ")
            + what
            + ", at byte offset "
            + offsetBytes);
    this.betweenRecords = betweenRecords;
  }

  /** Whether nothing of what was due had come. */
  public boolean isBetweenRecords() {
    return betweenRecords;
  }
}
