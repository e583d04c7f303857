package dev.postcopyd.snapshot;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Optional;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonGenerator;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.ObjectWriteContext;
import tools.jackson.core.json.JsonFactory;

/**
 * Where a snapshot of a guest whose writes are tracked comes from, as it says itself: from an
 * earlier one, or from nothing but the guest, and why.
 *
 * <p>It stands in the vmdescription, a JSON object that QEMU reads past when it loads, as its first
 * member: {@code {"postcopyd":{"base":"/path","reason":"..."},"page_size":...}}. Programs that read
 * the vmdescription take the members that they know.
 *
 * @param base what the earlier snapshot was called when this one was made from it; empty for a full
 *     one
 * @param reason why it is a full one; empty for one that is not
 */
public record SnapshotLineage(Optional<String> base, Optional<String> reason) {
  private static final JsonFactory JSON = new JsonFactory();
  private static final byte[] START = "{\"postcopyd\":".getBytes(StandardCharsets.US_ASCII);

  /** Made from an earlier one. */
  public static SnapshotLineage from(String base) {
    return new SnapshotLineage(Optional.of(base), Optional.empty());
  }

  /** Made from the guest alone. */
  public static SnapshotLineage full(String reason) {
    return new SnapshotLineage(Optional.empty(), Optional.of(reason));
  }

  /** The same machine, whose vmdescription says so; without one it is as it was. */
  public MachineState in(MachineState machine) {
    return new MachineState(
        machine.configuration(),
        machine.machineType(),
        machine.ramSectionId(),
        machine.commands(),
        machine.besideRam(),
        machine.deviceSections(),
        machine.vmDescriptionJson().map(json -> insert(without(json))));
  }

  private byte[] insert(byte[] json) {
    if (json.length < 2 || json[0] != '{') {
      return json;
    }
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    out.writeBytes(START);
    try (JsonGenerator generator = JSON.createGenerator(ObjectWriteContext.empty(), out)) {
      generator.writeStartObject();
      base.ifPresent(of -> generator.writeStringProperty("base", of));
      reason.ifPresent(why -> generator.writeStringProperty("reason", why));
      generator.writeEndObject();
    }
    if (json[1] != '}') {
      out.write(',');
    }
    out.write(json, 1, json.length - 1);
    return out.toByteArray();
  }

  /** What a machine says of itself; empty if it says nothing. */
  public static Optional<SnapshotLineage> of(MachineState machine) {
    Optional<byte[]> json = machine.vmDescriptionJson();
    if (json.isEmpty() || !begins(json.get())) {
      return Optional.empty();
    }
    try (JsonParser parser = parserAt(json.get())) {
      return read(parser);
    } catch (JacksonException e) {
      return Optional.empty();
    }
  }

  private static Optional<SnapshotLineage> read(JsonParser parser) {
    String base = null;
    String reason = null;
    if (parser.nextToken() != JsonToken.START_OBJECT) {
      return Optional.empty();
    }
    while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
      String name = parser.currentName();
      if (parser.nextToken() != JsonToken.VALUE_STRING) {
        parser.skipChildren();
      } else if (name.equals("base")) {
        base = parser.getString();
      } else if (name.equals("reason")) {
        reason = parser.getString();
      }
    }
    return Optional.of(new SnapshotLineage(Optional.ofNullable(base), Optional.ofNullable(reason)));
  }

  /** What an earlier snapshot, which this guest was loaded from, said of itself. */
  private static byte[] without(byte[] json) {
    if (!begins(json)) {
      return json;
    }
    try (JsonParser parser = parserAt(json)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        return json;
      }
      parser.skipChildren();
      int end = START.length + (int) parser.currentLocation().getByteOffset();
      int rest = end < json.length && json[end] == ',' ? end + 1 : end;
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      out.write('{');
      out.write(json, rest, json.length - rest);
      return out.toByteArray();
    } catch (JacksonException e) {
      return json;
    }
  }

  private static boolean begins(byte[] json) {
    return json.length > START.length
        && Arrays.equals(json, 0, START.length, START, 0, START.length);
  }

  private static JsonParser parserAt(byte[] json) {
    return JSON.createParser(
        ObjectReadContext.empty(), json, START.length, json.length - START.length);
  }
}
