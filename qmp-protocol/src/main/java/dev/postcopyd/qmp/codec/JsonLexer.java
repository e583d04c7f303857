package dev.postcopyd.qmp.codec;

/**
 * The token grammar of QEMU's JSON dialect as a state machine over single bytes.
 *
 * <p>The dialect is RFC 8259 with single-quoted strings besides double-quoted ones and with {@code
 * \'} as an escape. Words are any {@code [a-z]+}; whether they mean anything is for the parser to
 * say. Strings are delimited here, not decoded. Observed on QEMU 10.0: a token ends with its last
 * byte where that is certain, else with the byte after it; after a byte that fits nowhere
 * everything is skipped up to the next control character, 0xFE, 0xFF or structural character.
 *
 * <p>Stateless: the caller keeps the state between calls. Hot path: no allocation.
 */
final class JsonLexer {
  /** Between tokens; the state to begin with. */
  static final int START = 0;

  /** Within whitespace. */
  static final int SPACE = 1;

  /** After a lexical error, waiting for a byte at which to take up again. */
  static final int RECOVERY = 2;

  private static final int DOUBLE_QUOTED = 3;
  private static final int DOUBLE_QUOTED_ESCAPE = 4;
  private static final int SINGLE_QUOTED = 5;
  private static final int SINGLE_QUOTED_ESCAPE = 6;
  private static final int MINUS = 7;
  private static final int ZERO = 8;
  private static final int INTEGER_DIGITS = 9;
  private static final int FRACTION_START = 10;
  private static final int FRACTION_DIGITS = 11;
  private static final int EXPONENT_START = 12;
  private static final int EXPONENT_SIGN = 13;
  private static final int EXPONENT_DIGITS = 14;
  private static final int WORD = 15;

  /** From here on up a result of {@link #step} is not a state but a finished token. */
  static final int FIRST_TOKEN = 16;

  static final int BEGIN_OBJECT = 16;
  static final int END_OBJECT = 17;
  static final int BEGIN_ARRAY = 18;
  static final int END_ARRAY = 19;
  static final int COLON = 20;
  static final int COMMA = 21;
  static final int STRING = 22;
  static final int INTEGER = 23;
  static final int FLOAT = 24;
  static final int KEYWORD = 25;

  /** No token begins or goes on like this. */
  static final int ERROR = 26;

  /** Set in a result of {@link #step} if the byte was not taken and is to be stepped over again. */
  static final int NOT_TAKEN = 0x100;

  private JsonLexer() {}

  /**
   * Takes one byte.
   *
   * @param state a state, {@link #START} to begin with and after every token
   * @param value the byte, 0 to 255
   * @return the next state, or a finished token, or {@link #ERROR} (the state after it is {@link
   *     #RECOVERY}); with {@link #NOT_TAKEN} set if the byte belongs to what comes next
   */
  static int step(int state, int value) {
    return switch (state) {
      case START -> start(value);
      case SPACE -> isSpace(value) ? SPACE : START | NOT_TAKEN;
      case RECOVERY -> endsRecovery(value) ? START | NOT_TAKEN : RECOVERY;
      case DOUBLE_QUOTED -> inString(value, '"', DOUBLE_QUOTED, DOUBLE_QUOTED_ESCAPE);
      case SINGLE_QUOTED -> inString(value, '\'', SINGLE_QUOTED, SINGLE_QUOTED_ESCAPE);
      case DOUBLE_QUOTED_ESCAPE -> isStringByte(value) ? DOUBLE_QUOTED : ERROR;
      case SINGLE_QUOTED_ESCAPE -> isStringByte(value) ? SINGLE_QUOTED : ERROR;
      case MINUS -> value == '0' ? ZERO : isDigit(value) ? INTEGER_DIGITS : ERROR;
      case ZERO -> value == '.' ? FRACTION_START : isDigit(value) ? ERROR : INTEGER | NOT_TAKEN;
      case INTEGER_DIGITS ->
          switch (value) {
            case '.' -> FRACTION_START;
            case 'e', 'E' -> EXPONENT_START;
            default -> isDigit(value) ? INTEGER_DIGITS : INTEGER | NOT_TAKEN;
          };
      case FRACTION_START -> isDigit(value) ? FRACTION_DIGITS : ERROR;
      case FRACTION_DIGITS ->
          switch (value) {
            case 'e', 'E' -> EXPONENT_START;
            default -> isDigit(value) ? FRACTION_DIGITS : FLOAT | NOT_TAKEN;
          };
      case EXPONENT_START ->
          value == '+' || value == '-' ? EXPONENT_SIGN : isDigit(value) ? EXPONENT_DIGITS : ERROR;
      case EXPONENT_SIGN -> isDigit(value) ? EXPONENT_DIGITS : ERROR;
      case EXPONENT_DIGITS -> isDigit(value) ? EXPONENT_DIGITS : FLOAT | NOT_TAKEN;
      case WORD -> isLowerCase(value) ? WORD : KEYWORD | NOT_TAKEN;
      default -> throw new IllegalStateException("no such lexer state: " + state);
    };
  }

  /** Whether the bytes of this token could run into the next one's if nothing stood between. */
  static boolean isWordByte(int value) {
    return isDigit(value) || isLowerCase(value);
  }

  private static int start(int value) {
    return switch (value) {
      case ' ', '\t', '\r', '\n' -> SPACE;
      case '{' -> BEGIN_OBJECT;
      case '}' -> END_OBJECT;
      case '[' -> BEGIN_ARRAY;
      case ']' -> END_ARRAY;
      case ':' -> COLON;
      case ',' -> COMMA;
      case '"' -> DOUBLE_QUOTED;
      case '\'' -> SINGLE_QUOTED;
      case '-' -> MINUS;
      case '0' -> ZERO;
      default -> isDigit(value) ? INTEGER_DIGITS : isLowerCase(value) ? WORD : ERROR;
    };
  }

  private static int inString(int value, int quote, int string, int escape) {
    if (value == quote) {
      return STRING;
    }
    if (value == '\\') {
      return escape;
    }
    return isStringByte(value) ? string : ERROR;
  }

  private static boolean isStringByte(int value) {
    return value >= 0x20 && value < 0xFE;
  }

  private static boolean endsRecovery(int value) {
    return switch (value) {
      case '{', '}', '[', ']', ':', ',' -> true;
      default -> !isStringByte(value);
    };
  }

  private static boolean isSpace(int value) {
    return value == ' ' || value == '\t' || value == '\r' || value == '\n';
  }

  private static boolean isDigit(int value) {
    return value >= '0' && value <= '9';
  }

  private static boolean isLowerCase(int value) {
    return value >= 'a' && value <= 'z';
  }
}
