package dev.postcopyd.qmp.codec;

/** Decodes one string token: quotes off, escapes resolved, UTF-8 checked. Stateless. */
final class JsonStringDecoder {
  private JsonStringDecoder() {}

  /**
   * Decodes the token of either quote that lies in {@code text[from, to)}, quotes included.
   *
   * @throws QmpParseException on a bad escape or bad UTF-8
   */
  static String decode(byte[] text, int from, int to) throws QmpParseException {
    StringBuilder decoded = new StringBuilder(to - from - 2);
    int end = to - 1;
    int at = from + 1;
    while (at < end) {
      int value = text[at];
      if (value == '\\') {
        at = escape(text, at, to, decoded);
      } else if (value >= 0) {
        decoded.append((char) value);
        at++;
      } else {
        long sequence = ModifiedUtf8.decode(text, at, end);
        int codePoint = ModifiedUtf8.codePoint(sequence);
        if (codePoint < 0) {
          throw new QmpParseException("JSON parse error, invalid UTF-8 sequence in string");
        }
        decoded.appendCodePoint(codePoint);
        at += ModifiedUtf8.length(sequence);
      }
    }
    return decoded.toString();
  }

  private static int escape(byte[] text, int at, int to, StringBuilder decoded)
      throws QmpParseException {
    int escaped = text[at + 1];
    switch (escaped) {
      case '"', '\'', '\\', '/' -> decoded.append((char) escaped);
      case 'b' -> decoded.append('\b');
      case 'f' -> decoded.append('\f');
      case 'n' -> decoded.append('\n');
      case 'r' -> decoded.append('\r');
      case 't' -> decoded.append('\t');
      case 'u' -> {
        return unicodeEscape(text, at, to, decoded);
      }
      default -> throw new QmpParseException("JSON parse error, invalid escape sequence in string");
    }
    return at + 2;
  }

  private static int unicodeEscape(byte[] text, int at, int to, StringBuilder decoded)
      throws QmpParseException {
    int unit = hex4(text, at, to);
    int end = at + 6;
    int codePoint = unit;
    if (unit >= 0 && Character.isHighSurrogate((char) unit)) {
      boolean escapeFollows = end + 1 < to && text[end] == '\\' && text[end + 1] == 'u';
      int low = escapeFollows ? hex4(text, end, to) : -1;
      if (low >= 0 && Character.isLowSurrogate((char) low)) {
        codePoint = Character.toCodePoint((char) unit, (char) low);
        end += 6;
      }
    }
    if (!ModifiedUtf8.isCharacter(codePoint)) {
      throw new QmpParseException(
          "JSON parse error, "
              + ModifiedUtf8.show(text, at, Math.min(to, end))
              + " is not a valid Unicode character");
    }
    decoded.appendCodePoint(codePoint);
    return end;
  }

  /** The four hexadecimal digits after the {@code \}{@code u} at {@code at}, or -1. */
  private static int hex4(byte[] text, int at, int to) {
    if (at + 6 > to) {
      return -1;
    }
    int value = 0;
    for (int i = at + 2; i < at + 6; i++) {
      int digit = text[i] < 0 ? -1 : Character.digit(text[i], 16);
      if (digit < 0) {
        return -1;
      }
      value = (value << 4) | digit;
    }
    return value;
  }
}
