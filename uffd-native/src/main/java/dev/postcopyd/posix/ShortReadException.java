package dev.postcopyd.posix;

import java.io.EOFException;

/** A file ended before as many bytes as were needed. */
public final class ShortReadException extends EOFException {
  private final long offsetBytes;
  private final long lengthBytes;
  private final long readBytes;

  ShortReadException(String name, long offsetBytes, long lengthBytes, long readBytes) {
    super(
        name
            + " ends early: "
            + lengthBytes
            + " bytes wanted at offset "
            + offsetBytes
            + ", "
            + readBytes
            + " there");
    this.offsetBytes = offsetBytes;
    this.lengthBytes = lengthBytes;
    this.readBytes = readBytes;
  }

  /** Where the read began. */
  public long offsetBytes() {
    return offsetBytes;
  }

  /** How many bytes were wanted. */
  public long lengthBytes() {
    return lengthBytes;
  }

  /** How many were there. */
  public long readBytes() {
    return readBytes;
  }
}
