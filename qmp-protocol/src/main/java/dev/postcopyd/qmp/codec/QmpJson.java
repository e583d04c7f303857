package dev.postcopyd.qmp.codec;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/**
 * JSON trees in this protocol: how they are made, read and written.
 *
 * <p>Trees are Jackson's; the syntax on both sides is QEMU's (see {@link QmpFramer}), which is not
 * Jackson's to configure. Stateless.
 */
public final class QmpJson {
  private static final JsonNodeFactory NODES = JsonNodeFactory.instance;

  private QmpJson() {}

  /** A new empty object. */
  public static ObjectNode object() {
    return NODES.objectNode();
  }

  /** A new empty array. */
  public static ArrayNode array() {
    return NODES.arrayNode();
  }

  /**
   * Parses the tokens of one frame, as a {@link QmpFramer} delivers them.
   *
   * @throws QmpParseException if they are no JSON value
   */
  public static JsonNode parseFrame(byte[] text, int length) throws QmpParseException {
    return JsonValueParser.parse(text, length);
  }

  /**
   * Parses a text that holds exactly one value, for tests and for texts of the program's own.
   *
   * @throws QmpParseException if it holds something else
   */
  public static JsonNode parse(String text) throws QmpParseException {
    OneValue one = new OneValue();
    // A bare number or word ends with the byte after it.
    byte[] bytes = (text + "\n").getBytes(StandardCharsets.UTF_8);
    QmpLimits limits =
        new QmpLimits(
            Math.max(bytes.length, 1), QmpLimits.DEFAULT.maxTokens(), QmpLimits.DEFAULT.maxDepth());
    FrameBudget.Account account = new FrameBudget(Long.MAX_VALUE).openAccount();
    try (account;
        QmpFramer framer = new QmpFramer(limits, account, one)) {
      framer.feed(ByteBuffer.wrap(bytes));
    }
    return one.get();
  }

  /** The value as one line without line end, ASCII, spaced as QEMU spaces it. */
  public static String write(JsonNode value) {
    StringBuilder out = new StringBuilder();
    new JsonTextWriter(out).write(value);
    return out.toString();
  }

  private static final class OneValue implements QmpFramer.Sink {
    private @Nullable JsonNode value;
    private @Nullable String trouble;

    @Override
    public void complete(byte[] text, int length, FrameBudget.Lease lease) {
      try (lease) {
        if (value != null) {
          malformed("JSON parse error, expecting one value");
        } else {
          value = parseFrame(text, length);
        }
      } catch (QmpParseException e) {
        malformed(e.description());
      }
    }

    @Override
    public void malformed(String description) {
      if (trouble == null) {
        trouble = description;
      }
    }

    JsonNode get() throws QmpParseException {
      if (trouble != null) {
        throw new QmpParseException(trouble);
      }
      if (value == null) {
        throw new QmpParseException("JSON parse error, premature EOI");
      }
      return value;
    }
  }
}
