package dev.postcopyd.stream;

import java.util.Arrays;
import java.util.HexFormat;

/**
 * Bytes copied from hex dumps of mapped-ram files and streams that QEMU 10.0.2 wrote. Nothing here
 * was made by this project's encoder.
 */
final class RecordedBytes {
  /** {@code -M pc -m 512}: from the start of the file to the header of its first block. */
  static final byte[] PC_HEAD =
      hex(
          """
          51 45 56 4d 00 00 00 03
          07 00 00 00 0e 70 63 2d 69 34 34 30 66 78 2d 31 30 2e 30
          05 1a 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 63 61 70 61 62 69 6c 69 74 69 65 73
          00 00 00 01 00 00 00 01 0a 6d 61 70 70 65 64 2d 72 61 6d
          01 00 00 00 01 03 72 61 6d 00 00 00 00 00 00 00 04
          00 00 00 00 21 0d 20 04
          06 70 63 2e 72 61 6d 00 00 00 00 20 00 00 00
          00 00 00 01 00 00 00 00 00 00 10 00 00 00 00 00 00 00 00 8e 00 00 00 00 00 10 00 00
          """);

  /** {@code -M q35 -m 32 -uuid ...} with validate-uuid: the configuration. */
  static final byte[] UUID_CONFIGURATION =
      hex(
          """
          07 00 00 00 0b 70 63 2d 71 33 35 2d 31 30 2e 30
          05 1a 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 63 61 70 61 62 69 6c 69 74 69 65 73
          00 00 00 01 00 00 00 01 0a 6d 61 70 70 65 64 2d 72 61 6d
          05 12 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 75 75 69 64
          00 00 00 01 12 34 56 78 12 34 12 34 12 34 12 34 56 78 9a bc
          01
          """);

  /** {@code -M pc -m 32 -vga std}: from behind the last page to the head of the first device. */
  static final byte[] AFTER_PAGES =
      hex(
          """
          00 00 00 00 00 00 00 10 7e 00 00 00 01
          02 00 00 00 01 00 00 00 00 00 00 00 10 7e 00 00 00 01
          08 00 0b 00 00
          03 00 00 00 01 00 00 00 00 00 00 00 10 7e 00 00 00 01
          04 00 00 00 00 05 74 69 6d 65 72 00 00 00 00 00 00 00 02
          """);

  /**
   * {@code -M pc -m 192}, a postcopy migration to another QEMU: from the start of the stream to the
   * end of the RAM list.
   */
  static final byte[] POSTCOPY_HEAD =
      hex(
          """
          51 45 56 4d 00 00 00 03 07 00 00 00 0e 70 63 2d 69 34 34 30 66 78 2d 31 30 2e 30 08 00 01 00 00
          08 00 02 00 04 00 00 00 01 08 00 03 00 10 00 00 00 00 00 00 10 00 00 00 00 00 00 00 10 00 01 00
          00 00 01 03 72 61 6d 00 00 00 00 00 00 00 04 00 00 00 00 0c 08 20 04 06 70 63 2e 72 61 6d 00 00
          00 00 0c 00 00 00 14 2f 72 6f 6d 40 65 74 63 2f 61 63 70 69 2f 74 61 62 6c 65 73 00 00 00 00 00
          02 00 00 07 70 63 2e 62 69 6f 73 00 00 00 00 00 04 00 00 06 70 63 2e 72 6f 6d 00 00 00 00 00 02
          00 00 15 2f 72 6f 6d 40 65 74 63 2f 74 61 62 6c 65 2d 6c 6f 61 64 65 72 00 00 00 00 00 00 10 00
          12 2f 72 6f 6d 40 65 74 63 2f 61 63 70 69 2f 72 73 64 70 00 00 00 00 00 00 10 00 00 00 00 00 00
          00 00 10 7e 00 00 00 01
          """);

  /** The same migration's return path: its first four PONGs and requests, and its end. */
  static final byte[] RETURN_PATH =
      hex(
          """
          00 02 00 04 00 00 00 01 00 02 00 04 00 00 00 02 00 02 00 04 00 00 00 04 00 02 00 04 00 00 00 03
          00 03 00 13 00 00 00 00 02 a4 a0 00 00 00 10 00 06 70 63 2e 72 61 6d 00 04 00 0c 00 00 00 00 0b
          f4 d0 00 00 00 10 00 00 04 00 0c 00 00 00 00 0b ee b0 00 00 00 10 00 00 04 00 0c 00 00 00 00 0b
          ee a0 00 00 00 10 00 00 01 00 04 00 00 00 00
          """);

  private RecordedBytes() {}

  static byte[] hex(String text) {
    return HexFormat.of().parseHex(text.replaceAll("\\s", ""));
  }

  static StreamSource source(byte[] bytes) {
    return new StreamSource() {
      @Override
      public long sizeBytes() {
        return bytes.length;
      }

      @Override
      public int readAt(long offsetBytes, byte[] into, int from, int length) {
        int start = (int) Math.min(bytes.length, offsetBytes);
        int count = Math.min(length, bytes.length - start);
        System.arraycopy(bytes, start, into, from, count);
        return count;
      }
    };
  }

  static StreamInput input(byte[] bytes) {
    return new StreamInput(source(bytes), 0);
  }

  static byte[] patched(byte[] bytes, int at, int... values) {
    byte[] copy = Arrays.copyOf(bytes, bytes.length);
    for (int i = 0; i < values.length; i++) {
      copy[at + i] = (byte) values[i];
    }
    return copy;
  }
}
