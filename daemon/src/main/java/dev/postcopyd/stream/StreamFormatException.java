package dev.postcopyd.stream;

import java.io.IOException;

/**
 * The bytes are not what the format demands. The message says what is wrong, with the offending
 * value, and where: it always ends in the byte offset. It does not name the file: whoever reports
 * it knows that.
 *
 * <p>An {@link IOException}, because it comes out of reading; a failed system call is never one of
 * these.
 */
public final class StreamFormatException extends IOException {
  private final long offsetBytes;

  /**
   * @param problem what is wrong, with the offending value
   * @param offsetBytes where in the file the offending value begins
   */
  public StreamFormatException(String problem, long offsetBytes) {
    super(
        problem + " at byte offset " + offsetBytes + " (0x" + Long.toHexString(offsetBytes) + ")");
    this.offsetBytes = offsetBytes;
  }

  /** Where in the file the offending value begins. */
  public long offsetBytes() {
    return offsetBytes;
  }
}
