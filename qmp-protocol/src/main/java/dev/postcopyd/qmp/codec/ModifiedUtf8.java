package dev.postcopyd.qmp.codec;

/**
 * UTF-8 as QEMU reads it: with U+0000 also as the two bytes C0 80, and without surrogates, overlong
 * forms, noncharacters, and anything above U+10FFFF.
 *
 * <p>A malformed sequence ends before the first byte that cannot continue it; where bytes are shown
 * to a person, each such sequence becomes one U+FFFD (observed on QEMU 10.0).
 */
final class ModifiedUtf8 {
  /** Set in a result of {@link #decode} in place of a code point. */
  private static final int INVALID = -1;

  private static final int[] SMALLEST_OF_LENGTH = {
    0, 0, 0x80, 0x800, 0x1_0000, 0x20_0000, 0x400_0000
  };

  private ModifiedUtf8() {}

  /**
   * Decodes the sequence at {@code from}.
   *
   * @return the number of bytes consumed, at least 1, in the upper half; the code point, or a
   *     negative number if the sequence is malformed, in the lower half
   */
  static long decode(byte[] text, int from, int to) {
    int first = text[from] & 0xFF;
    if (first < 0x80) {
      return result(1, first);
    }
    if (first < 0xC0 || first >= 0xFE) {
      return result(1, INVALID);
    }
    int length = Integer.numberOfLeadingZeros(~(first << 24));
    int codePoint = first & (0x7F >> length);
    for (int i = 1; i < length; i++) {
      if (from + i >= to || (text[from + i] & 0xC0) != 0x80) {
        return result(i, INVALID);
      }
      codePoint = (codePoint << 6) | (text[from + i] & 0x3F);
    }
    boolean overlong = codePoint < SMALLEST_OF_LENGTH[length] && !(codePoint == 0 && length == 2);
    return result(length, overlong || !isCharacter(codePoint) ? INVALID : codePoint);
  }

  static int codePoint(long decoded) {
    return (int) decoded;
  }

  static int length(long decoded) {
    return (int) (decoded >>> 32);
  }

  /** Whether a string may hold this code point: no surrogate, no noncharacter, in range. */
  static boolean isCharacter(int codePoint) {
    return codePoint >= 0
        && codePoint <= Character.MAX_CODE_POINT
        && (codePoint & 0xFFFE) != 0xFFFE
        && (codePoint < 0xFDD0 || codePoint > 0xFDEF)
        && (codePoint < Character.MIN_SURROGATE || codePoint > Character.MAX_SURROGATE);
  }

  /** The bytes as a person may see them, up to the first zero byte. */
  static String show(byte[] text, int from, int to) {
    StringBuilder shown = new StringBuilder(to - from);
    int at = from;
    while (at < to && text[at] != 0) {
      long decoded = decode(text, at, to);
      int codePoint = codePoint(decoded);
      shown.appendCodePoint(codePoint < 0 ? 0xFFFD : codePoint);
      at += length(decoded);
    }
    return shown.toString();
  }

  private static long result(int length, int codePoint) {
    return ((long) length << 32) | (codePoint & 0xFFFF_FFFFL);
  }
}
