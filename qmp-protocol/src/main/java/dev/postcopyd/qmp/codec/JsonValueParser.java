package dev.postcopyd.qmp.codec;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Deque;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.BooleanNode;
import tools.jackson.databind.node.ContainerNode;
import tools.jackson.databind.node.DoubleNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.NullNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * Builds the tree of one frame, and refuses what is no JSON in QEMU's words.
 *
 * <p>The frame has passed the lexer and the limits, so depth is bounded and tokens are well formed;
 * this walks over the same lexer, with the open objects and arrays on a stack of its own because a
 * thread's stack may be small. It is not Jackson's parser because each mistake has a text of its
 * own, which clients see. Numbers are kept as QEMU keeps them: signed, else unsigned 64-bit, else
 * double. One object parses one frame; not thread-safe.
 */
final class JsonValueParser {
  /** QEMU builds a message in 1 KiB, the final zero included; a long word is cut there. */
  private static final int MAX_MESSAGE_CHARS = 1023;

  private static final int NO_TOKEN = -1;
  private static final BigInteger MAX_UNSIGNED_LONG =
      BigInteger.ONE.shiftLeft(Long.SIZE).subtract(BigInteger.ONE);
  private static final JsonNodeFactory NODES = JsonNodeFactory.instance;

  private final byte[] text;
  private final int length;
  private final Deque<Level> open = new ArrayDeque<>();

  private int token;
  private int tokenStart;
  private int tokenEnd;

  private JsonValueParser(byte[] text, int length) {
    this.text = text;
    this.length = length;
  }

  /** Parses the first {@code length} bytes of {@code text}. */
  static JsonNode parse(byte[] text, int length) throws QmpParseException {
    return new JsonValueParser(text, length).value();
  }

  private JsonNode value() throws QmpParseException {
    advance();
    while (true) {
      JsonNode value = beginValue();
      if (value instanceof ContainerNode<?> container) {
        advance();
        if (token != end(container)) {
          open.push(new Level(container));
          continue;
        }
      }
      JsonNode whole = endValue(value);
      if (whole != null) {
        return whole;
      }
    }
  }

  /** A value without members, or the beginning of one with. */
  private JsonNode beginValue() throws QmpParseException {
    return switch (token) {
      case JsonLexer.BEGIN_OBJECT -> NODES.objectNode();
      case JsonLexer.BEGIN_ARRAY -> NODES.arrayNode();
      case JsonLexer.STRING ->
          NODES.stringNode(JsonStringDecoder.decode(text, tokenStart, tokenEnd));
      case JsonLexer.INTEGER -> integer();
      case JsonLexer.FLOAT -> DoubleNode.valueOf(Double.parseDouble(tokenText()));
      case JsonLexer.KEYWORD -> keyword();
      case NO_TOKEN -> throw error("premature EOI");
      default -> throw error("expecting value");
    };
  }

  /**
   * Puts a complete value where it belongs, and whatever becomes complete by that.
   *
   * @return the outermost value if that is complete; else null, with the next value's first token
   */
  private @Nullable JsonNode endValue(JsonNode complete) throws QmpParseException {
    JsonNode value = complete;
    while (!open.isEmpty()) {
      Level level = open.getFirst();
      if (level.container instanceof ObjectNode && level.key == null) {
        level.key = key(value);
        return null;
      }
      level.add(value);
      advance();
      if (token != end(level.container)) {
        boolean inObject = level.container instanceof ObjectNode;
        expect(JsonLexer.COMMA, "expected separator in " + (inObject ? "dict" : "list"));
        advance();
        return null;
      }
      value = open.pop().container;
    }
    return value;
  }

  /** Any value may stand where a key should; that it is none shows when it is complete. */
  private String key(JsonNode value) throws QmpParseException {
    if (!value.isString()) {
      throw error("key is not a string in object");
    }
    advance();
    expect(JsonLexer.COLON, "missing : in object pair");
    advance();
    return value.stringValue();
  }

  private static int end(ContainerNode<?> container) {
    return container instanceof ObjectNode ? JsonLexer.END_OBJECT : JsonLexer.END_ARRAY;
  }

  /** An object or array that has begun and not ended. */
  private static final class Level {
    private final ContainerNode<?> container;
    private @Nullable String key;

    private Level(ContainerNode<?> container) {
      this.container = container;
    }

    private void add(JsonNode value) throws QmpParseException {
      if (container instanceof ArrayNode array) {
        array.add(value);
      } else if (container instanceof ObjectNode object) {
        if (object.putIfAbsent(key, value) != null) {
          throw error("duplicate key");
        }
        key = null;
      }
    }
  }

  private JsonNode integer() {
    String digits = tokenText();
    // 20 characters hold every 64-bit number; longer ones are doubles, leading zeros are no JSON.
    if (digits.length() <= 20) {
      BigInteger exact = new BigInteger(digits);
      if (exact.bitLength() < Long.SIZE) {
        return NODES.numberNode(exact.longValue());
      }
      if (exact.signum() > 0 && exact.compareTo(MAX_UNSIGNED_LONG) <= 0) {
        return NODES.numberNode(exact);
      }
    }
    return DoubleNode.valueOf(Double.parseDouble(digits));
  }

  private JsonNode keyword() throws QmpParseException {
    String word = tokenText();
    return switch (word) {
      case "true" -> BooleanNode.TRUE;
      case "false" -> BooleanNode.FALSE;
      case "null" -> NullNode.instance;
      default -> throw error("invalid keyword '" + word + "'");
    };
  }

  private void expect(int expected, String otherwise) throws QmpParseException {
    if (token != expected) {
      throw error(token == NO_TOKEN ? "premature EOI" : otherwise);
    }
  }

  private void advance() {
    int state = JsonLexer.START;
    int at = tokenEnd;
    while (at < length) {
      if (state == JsonLexer.START) {
        tokenStart = at;
      }
      int next = JsonLexer.step(state, text[at] & 0xFF);
      if ((next & JsonLexer.NOT_TAKEN) == 0) {
        at++;
      }
      next &= ~JsonLexer.NOT_TAKEN;
      if (next >= JsonLexer.FIRST_TOKEN) {
        token = next;
        tokenEnd = at;
        return;
      }
      state = next;
    }
    finish(state);
  }

  /** The frame has ended: what is under way is a number or word, for these need a byte more. */
  private void finish(int state) {
    tokenEnd = length;
    int next = state == JsonLexer.START ? JsonLexer.START : JsonLexer.step(state, '\n');
    next &= ~JsonLexer.NOT_TAKEN;
    token = next >= JsonLexer.FIRST_TOKEN ? next : NO_TOKEN;
  }

  private String tokenText() {
    return new String(text, tokenStart, tokenEnd - tokenStart, StandardCharsets.ISO_8859_1);
  }

  private static QmpParseException error(String message) {
    String shown =
        message.length() <= MAX_MESSAGE_CHARS ? message : message.substring(0, MAX_MESSAGE_CHARS);
    return new QmpParseException("JSON parse error, " + shown);
  }
}
