package dev.postcopyd.workingset;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Numbers and texts as a working set's file holds them; {@link WireReader} is the other way. A
 * varint has 7 bits a byte, the lowest first, and the top bit set in all bytes but the last; zigzag
 * makes small negative numbers small ones. Not thread-safe.
 */
final class WireWriter {
  private byte[] bytes = new byte[1024];
  private int length;

  void u8(int value) {
    if (length == bytes.length) {
      bytes = Arrays.copyOf(bytes, length * 2);
    }
    bytes[length++] = (byte) value;
  }

  void u32(int value) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      u8(value >>> shift);
    }
  }

  void u64(long value) {
    u32((int) (value >>> 32));
    u32((int) value);
  }

  void varint(long value) {
    long rest = value;
    while ((rest & ~0x7fL) != 0) {
      u8((int) (rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    u8((int) rest);
  }

  void zigzag(long value) {
    varint(value << 1 ^ value >> 63);
  }

  /** Length in bytes as a varint, then UTF-8. */
  void text(String value) {
    byte[] utf8 = value.getBytes(StandardCharsets.UTF_8);
    varint(utf8.length);
    bytes(utf8);
  }

  void bytes(byte[] values) {
    for (byte value : values) {
      u8(value);
    }
  }

  byte[] toByteArray() {
    return Arrays.copyOf(bytes, length);
  }

  static void putU32(byte[] into, int offset, int value) {
    for (int i = 0; i < 4; i++) {
      into[offset + i] = (byte) (value >>> (24 - 8 * i));
    }
  }
}
