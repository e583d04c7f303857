package dev.postcopyd.stream;

import java.io.IOException;

/** Bytes that can be read by position: a file, or an array in a test. */
public interface StreamSource {
  /** How many bytes there are. */
  long sizeBytes();

  /**
   * Reads up to {@code length} bytes at {@code offsetBytes} into {@code into} from {@code from} on.
   *
   * @return how many bytes were read: fewer than {@code length} only where the source ends
   */
  int readAt(long offsetBytes, byte[] into, int from, int length) throws IOException;

  /**
   * Reads at least {@code least} bytes and at most {@code length}, for sources of which the rest
   * may be long in coming.
   *
   * @return how many bytes were read: fewer than {@code least} only where the source ends
   */
  default int readAt(long offsetBytes, byte[] into, int from, int least, int length)
      throws IOException {
    return readAt(offsetBytes, into, from, length);
  }
}
