package dev.postcopyd.qmp.codec;

import java.math.BigDecimal;
import java.math.MathContext;
import java.math.RoundingMode;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/**
 * Writes JSON as QEMU 10.0 does: {@code ", "} and {@code ": "} between parts, ASCII only, four
 * upper-case hexadecimal digits for everything else, doubles in the 17 digits of C's {@code %.17g}.
 *
 * <p>Or as short as JSON can be, without any space.
 *
 * <p>One difference: QEMU prints an infinite double as {@code inf}, which is no JSON; here it is a
 * number too large for a double, as the client must have sent it. Appends to a builder that the
 * caller owns; not thread-safe.
 */
final class JsonTextWriter {
  private static final MathContext C_DOUBLE_DIGITS = new MathContext(17, RoundingMode.HALF_EVEN);
  private static final String HEX = "0123456789ABCDEF";

  private final StringBuilder out;
  private final String space;

  /** Spaced as QEMU does. */
  JsonTextWriter(StringBuilder out) {
    this(out, " ");
  }

  private JsonTextWriter(StringBuilder out, String space) {
    this.out = out;
    this.space = space;
  }

  /** Without any space. */
  static JsonTextWriter compact(StringBuilder out) {
    return new JsonTextWriter(out, "");
  }

  /** Not recursive: a client's id may be nested deeper than a thread's stack is tall. */
  void write(JsonNode root) {
    Deque<Level> open = new ArrayDeque<>();
    JsonNode value = root;
    while (true) {
      if (value.isContainer()) {
        out.append(value.isObject() ? '{' : '[');
        open.push(new Level(value));
      } else {
        writeScalar(value);
      }
      Level level = open.peek();
      while (level != null && !level.hasNext()) {
        out.append(level.end);
        open.pop();
        level = open.peek();
      }
      if (level == null) {
        return;
      }
      value = level.next();
    }
  }

  /** An object or array that has been begun. */
  private final class Level {
    private final @Nullable Iterator<Map.Entry<String, JsonNode>> members;
    private final Iterator<JsonNode> elements;
    private final char end;
    private boolean first = true;

    private Level(JsonNode container) {
      members = container.isObject() ? container.properties().iterator() : null;
      elements = container.iterator();
      end = container.isObject() ? '}' : ']';
    }

    private boolean hasNext() {
      return elements.hasNext();
    }

    /** Writes what stands before the next value, and goes on to it. */
    private JsonNode next() {
      if (!first) {
        out.append(',').append(space);
      }
      first = false;
      if (members != null) {
        writeString(members.next().getKey());
        out.append(':').append(space);
      }
      return elements.next();
    }
  }

  private void writeScalar(JsonNode value) {
    switch (value.getNodeType()) {
      case STRING -> writeString(value.stringValue());
      case NUMBER -> writeNumber(value);
      case BOOLEAN -> out.append(value.booleanValue());
      case NULL -> out.append("null");
      case OBJECT, ARRAY, BINARY, MISSING, POJO ->
          throw new IllegalStateException("no scalar of JSON: " + value.getNodeType());
    }
  }

  void writeString(String value) {
    out.append('"');
    for (int i = 0; i < value.length(); i++) {
      char c = value.charAt(i);
      switch (c) {
        case '"' -> out.append("\\\"");
        case '\\' -> out.append("\\\\");
        case '\b' -> out.append("\\b");
        case '\f' -> out.append("\\f");
        case '\n' -> out.append("\\n");
        case '\r' -> out.append("\\r");
        case '\t' -> out.append("\\t");
        default -> {
          if (c >= 0x20 && c < 0x7F) {
            out.append(c);
          } else {
            writeEscape(isLoneSurrogate(value, i) ? '\uFFFD' : c);
          }
        }
      }
    }
    out.append('"');
  }

  private void writeEscape(char c) {
    out.append("\\u");
    for (int shift = 12; shift >= 0; shift -= 4) {
      out.append(HEX.charAt(c >> shift & 0xF));
    }
  }

  private static boolean isLoneSurrogate(String value, int i) {
    char c = value.charAt(i);
    if (Character.isHighSurrogate(c)) {
      return i + 1 == value.length() || !Character.isLowSurrogate(value.charAt(i + 1));
    }
    return Character.isLowSurrogate(c)
        && (i == 0 || !Character.isHighSurrogate(value.charAt(i - 1)));
  }

  private void writeNumber(JsonNode value) {
    if (value.isIntegralNumber()) {
      out.append(value.bigIntegerValue());
    } else {
      writeDouble(value.doubleValue());
    }
  }

  private void writeDouble(double value) {
    if (value < 0 || (value == 0 && Double.doubleToRawLongBits(value) != 0)) {
      out.append('-');
    }
    double magnitude = Math.abs(value);
    if (magnitude == 0) {
      out.append('0');
    } else if (Double.isInfinite(magnitude)) {
      out.append("1e999");
    } else if (Double.isNaN(magnitude)) {
      throw new IllegalStateException("not a number cannot be written as JSON");
    } else {
      BigDecimal digits = new BigDecimal(magnitude).round(C_DOUBLE_DIGITS).stripTrailingZeros();
      int exponent = digits.precision() - digits.scale() - 1;
      if (exponent >= -4 && exponent < C_DOUBLE_DIGITS.getPrecision()) {
        out.append(digits.toPlainString());
      } else {
        writeScientific(digits.unscaledValue().toString(), exponent);
      }
    }
  }

  private void writeScientific(String digits, int exponent) {
    out.append(digits.charAt(0));
    if (digits.length() > 1) {
      out.append('.').append(digits, 1, digits.length());
    }
    int magnitude = Math.abs(exponent);
    out.append('e').append(exponent < 0 ? '-' : '+');
    if (magnitude < 10) {
      out.append('0');
    }
    out.append(magnitude);
  }
}
