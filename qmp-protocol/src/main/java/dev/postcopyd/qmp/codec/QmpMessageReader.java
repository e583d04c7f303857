package dev.postcopyd.qmp.codec;

import dev.postcopyd.qmp.message.CommandId;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.Failure;
import dev.postcopyd.qmp.message.Greeting;
import dev.postcopyd.qmp.message.QmpErrorClass;
import dev.postcopyd.qmp.message.QmpMessage;
import dev.postcopyd.qmp.message.QmpVersion;
import dev.postcopyd.qmp.message.Success;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * Reads what a server sends: the client's side of {@link QmpMessageWriter}.
 *
 * <p>Generous with what a server adds, strict with what it must say. Stateless.
 */
public final class QmpMessageReader {
  private static final int NANOS_PER_MICRO = 1000;

  private QmpMessageReader() {}

  /**
   * The greeting, answer or event that this value is.
   *
   * @throws QmpParseException if it is none of them
   */
  public static QmpMessage read(JsonNode json) throws QmpParseException {
    JsonNode returned = json.get("return");
    if (returned != null) {
      return new Success(id(json), returned);
    }
    if (json.get("error") instanceof ObjectNode error) {
      QmpErrorClass errorClass = QmpErrorClass.ofWireName(error.path("class").asString(""));
      return new Failure(
          id(json),
          errorClass == null ? QmpErrorClass.GENERIC_ERROR : errorClass,
          error.path("desc").asString(""));
    }
    if (json.path("event").isString()) {
      JsonNode timestamp = json.path("timestamp");
      return new Event(
          json.path("event").stringValue(),
          json.get("data") instanceof ObjectNode data ? data : null,
          Instant.ofEpochSecond(
              timestamp.path("seconds").asLong(0),
              timestamp.path("microseconds").asLong(0) * NANOS_PER_MICRO));
    }
    if (json.get("QMP") instanceof ObjectNode greeting) {
      return greeting(greeting);
    }
    throw new QmpParseException("neither greeting, answer nor event");
  }

  private static Greeting greeting(ObjectNode greeting) {
    JsonNode version = greeting.path("version");
    JsonNode release = version.path("qemu");
    List<String> capabilities = new ArrayList<>();
    for (JsonNode capability : greeting.path("capabilities")) {
      capabilities.add(capability.asString(""));
    }
    return new Greeting(
        new QmpVersion(
            release.path("major").asInt(0),
            release.path("minor").asInt(0),
            release.path("micro").asInt(0),
            version.path("package").asString("")),
        capabilities);
  }

  private static @Nullable CommandId id(JsonNode json) {
    JsonNode id = json.get("id");
    return id == null ? null : new CommandId(id);
  }
}
