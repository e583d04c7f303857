package dev.postcopyd.qmp.codec;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.BooleanNode;
import tools.jackson.databind.node.DoubleNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.NullNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * Builds the tree of one frame, and refuses what is no JSON in QEMU's words.
 *
 * <p>The frame has passed the lexer and the limits, so depth is bounded and tokens are well formed;
 * this is a plain recursive descent over the same lexer. It is not Jackson's parser because each
 * mistake has a text of its own, which clients see. Numbers are kept as QEMU keeps them: signed,
 * else unsigned 64-bit, else double. One object parses one frame; not thread-safe.
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

  private int token;
  private int tokenStart;
  private int tokenEnd;

  private JsonValueParser(byte[] text, int length) {
    this.text = text;
    this.length = length;
  }

  /** Parses the first {@code length} bytes of {@code text}. */
  static JsonNode parse(byte[] text, int length) throws QmpParseException {
    JsonValueParser parser = new JsonValueParser(text, length);
    parser.advance();
    return parser.value();
  }

  private JsonNode value() throws QmpParseException {
    return switch (token) {
      case JsonLexer.BEGIN_OBJECT -> object();
      case JsonLexer.BEGIN_ARRAY -> array();
      case JsonLexer.STRING ->
          NODES.stringNode(JsonStringDecoder.decode(text, tokenStart, tokenEnd));
      case JsonLexer.INTEGER -> integer();
      case JsonLexer.FLOAT -> DoubleNode.valueOf(Double.parseDouble(tokenText()));
      case JsonLexer.KEYWORD -> keyword();
      case NO_TOKEN -> throw error("premature EOI");
      default -> throw error("expecting value");
    };
  }

  private ObjectNode object() throws QmpParseException {
    ObjectNode object = NODES.objectNode();
    advance();
    if (token == JsonLexer.END_OBJECT) {
      return object;
    }
    while (true) {
      member(object);
      advance();
      if (token == JsonLexer.END_OBJECT) {
        return object;
      }
      expect(JsonLexer.COMMA, "expected separator in dict");
      advance();
    }
  }

  private void member(ObjectNode object) throws QmpParseException {
    JsonNode key = value();
    if (!key.isString()) {
      throw error("key is not a string in object");
    }
    advance();
    expect(JsonLexer.COLON, "missing : in object pair");
    advance();
    JsonNode value = value();
    if (object.has(key.stringValue())) {
      throw error("duplicate key");
    }
    object.set(key.stringValue(), value);
  }

  private ArrayNode array() throws QmpParseException {
    ArrayNode array = NODES.arrayNode();
    advance();
    if (token == JsonLexer.END_ARRAY) {
      return array;
    }
    while (true) {
      array.add(value());
      advance();
      if (token == JsonLexer.END_ARRAY) {
        return array;
      }
      expect(JsonLexer.COMMA, "expected separator in list");
      advance();
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
