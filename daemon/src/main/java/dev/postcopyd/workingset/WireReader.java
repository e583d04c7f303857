package dev.postcopyd.workingset;

import dev.postcopyd.stream.StreamFormatException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

/**
 * Reads what {@link WireWriter} writes, and believes none of it: every number has bounds, and no
 * read goes beyond the end. Not thread-safe.
 */
final class WireReader {
  private static final int MAX_VARINT_BITS = 63;

  private final byte[] bytes;
  private final int end;
  private int position;

  /** A reader of the bytes from {@code from} up to {@code end}. */
  WireReader(byte[] bytes, int from, int end) {
    this.bytes = bytes;
    this.position = from;
    this.end = end;
  }

  long offsetBytes() {
    return position;
  }

  int u8(int least, int most, String what) throws StreamFormatException {
    int offset = position;
    return (int) bounded(next(what), least, most, what, offset);
  }

  long varint(long least, long most, String what) throws StreamFormatException {
    int offset = position;
    return bounded(varint(what), least, most, what, offset);
  }

  /** A number of up to 64 bits of either sign. */
  long zigzag() throws StreamFormatException {
    long value = varint("distance of a run");
    return value >>> 1 ^ -(value & 1);
  }

  private long varint(String what) throws StreamFormatException {
    int offset = position;
    long value = 0;
    for (int shift = 0; shift <= MAX_VARINT_BITS; shift += 7) {
      int part = next(what);
      long bits = part & 0x7fL;
      if (bits << shift >>> shift != bits) {
        break;
      }
      value |= bits << shift;
      if (part < 0x80) {
        return value;
      }
    }
    throw new StreamFormatException(what + " has more than 64 bits", offset);
  }

  String text(int leastBytes, int mostBytes, String what) throws StreamFormatException {
    int length = (int) varint(leastBytes, mostBytes, "length of " + what);
    if (length > end - position) {
      throw new StreamFormatException("the file ends within " + what, position);
    }
    try {
      String text =
          StandardCharsets.UTF_8
              .newDecoder()
              .decode(ByteBuffer.wrap(bytes, position, length))
              .toString();
      position += length;
      return text;
    } catch (CharacterCodingException e) {
      throw new StreamFormatException(what + " is not UTF-8", position);
    }
  }

  void requireEnd() throws StreamFormatException {
    if (position != end) {
      throw new StreamFormatException((end - position) + " bytes too many", position);
    }
  }

  private int next(String what) throws StreamFormatException {
    if (position == end) {
      throw new StreamFormatException("the file ends within " + what, position);
    }
    return bytes[position++] & 0xff;
  }

  private static long bounded(long value, long least, long most, String what, int offset)
      throws StreamFormatException {
    if (value < least || value > most) {
      throw new StreamFormatException(
          "%s is %s, and is to be from %d to %d"
              .formatted(what, Long.toUnsignedString(value), least, most),
          offset);
    }
    return value;
  }

  static int u32(byte[] from, int offset) {
    return ByteBuffer.wrap(from).getInt(offset);
  }

  static long u64(byte[] from, int offset) {
    return ByteBuffer.wrap(from).getLong(offset);
  }
}
