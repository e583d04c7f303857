package dev.postcopyd.qmp.codec;

import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.CommandId;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.Failure;
import dev.postcopyd.qmp.message.Greeting;
import dev.postcopyd.qmp.message.QmpMessage;
import dev.postcopyd.qmp.message.QmpVersion;
import dev.postcopyd.qmp.message.Success;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * Messages as bytes: one line each, ended by CRLF, ASCII only.
 *
 * <p>The order of members is the one that QEMU 10.0 was seen to send, an answer's {@code id} last
 * and a failure's first; no client should mind, but bytes that never differ need no explanation.
 * Stateless.
 */
public final class QmpMessageWriter {
  private static final int NANOS_PER_MICRO = 1000;

  private QmpMessageWriter() {}

  /** The message as it goes on the wire. */
  public static byte[] write(QmpMessage message) {
    StringBuilder out = new StringBuilder();
    new JsonTextWriter(out).write(toJson(message));
    return out.append("\r\n").toString().getBytes(StandardCharsets.US_ASCII);
  }

  /**
   * A command in as few bytes as it can have, without a line end. QEMU takes a command when its
   * last brace is there, and reads its monitor byte by byte, with six system calls for each.
   */
  public static byte[] writeCompact(Command command) {
    StringBuilder out = new StringBuilder();
    JsonTextWriter.compact(out).write(toJson(command));
    return out.append('\n').toString().getBytes(StandardCharsets.US_ASCII);
  }

  /** The message as a tree. */
  public static ObjectNode toJson(QmpMessage message) {
    return switch (message) {
      case Greeting greeting -> greeting(greeting);
      case Command command -> command(command);
      case Success success -> {
        ObjectNode json = QmpJson.object();
        json.set("return", success.returnValue());
        yield putId(json, success.id());
      }
      case Failure failure -> {
        ObjectNode json = putId(QmpJson.object(), failure.id());
        json.putObject("error")
            .put("class", failure.errorClass().wireName())
            .put("desc", failure.description());
        yield json;
      }
      case Event event -> event(event);
    };
  }

  private static ObjectNode greeting(Greeting greeting) {
    ObjectNode json = QmpJson.object();
    ObjectNode qmp = json.putObject("QMP");
    qmp.set("version", version(greeting.version()));
    ArrayNode capabilities = qmp.putArray("capabilities");
    greeting.capabilities().forEach(capabilities::add);
    return json;
  }

  /** A version as the greeting and {@code query-version} show it. */
  public static ObjectNode version(QmpVersion version) {
    ObjectNode json = QmpJson.object();
    json.putObject("qemu")
        .put("micro", (long) version.micro())
        .put("minor", (long) version.minor())
        .put("major", (long) version.major());
    return json.put("package", version.packageName());
  }

  private static ObjectNode command(Command command) {
    ObjectNode json = QmpJson.object();
    json.put(command.outOfBand() ? "exec-oob" : "execute", command.name());
    if (!command.arguments().isEmpty()) {
      json.set("arguments", command.arguments());
    }
    return putId(json, command.id());
  }

  private static ObjectNode event(Event event) {
    ObjectNode json = QmpJson.object();
    Instant timestamp = event.timestamp();
    json.putObject("timestamp")
        .put("seconds", timestamp.getEpochSecond())
        .put("microseconds", (long) timestamp.getNano() / NANOS_PER_MICRO);
    json.put("event", event.name());
    if (event.data() != null) {
      json.set("data", event.data());
    }
    return json;
  }

  private static ObjectNode putId(ObjectNode json, @Nullable CommandId id) {
    if (id != null) {
      json.set("id", id.value());
    }
    return json;
  }
}
