package dev.postcopyd.snapshot;

import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamRecord.SectionFull;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.json.JsonFactory;

/**
 * A device as the vmdescription lists it, in the order of the stream: {@code
 * {"devices":[{"name":"timer","instance_id":0,...},...]}}. Fields and subsections are skipped.
 */
record VmDescriptionDevice(String name, int instanceId) {
  private static final int MAX_DEPTH = 256;
  private static final JsonFactory JSON =
      JsonFactory.builder()
          .streamReadConstraints(
              StreamReadConstraints.builder()
                  .maxNestingDepth(MAX_DEPTH)
                  .maxDocumentLength(SnapshotLimits.MAX_VMDESCRIPTION_BYTES)
                  .build())
          .build();

  /**
   * The devices of a vmdescription.
   *
   * @param jsonOffsetBytes where in the file it begins
   * @throws StreamFormatException if it is not JSON, or has no list of devices
   */
  static List<VmDescriptionDevice> listIn(byte[] json, long jsonOffsetBytes)
      throws StreamFormatException {
    List<VmDescriptionDevice> devices = null;
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), json)) {
      parser.nextToken();
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        String property = parser.currentName();
        parser.nextToken();
        if (property.equals("devices") && parser.currentToken() == JsonToken.START_ARRAY) {
          devices = devices(parser, jsonOffsetBytes);
        } else {
          parser.skipChildren();
        }
      }
      if (parser.nextToken() != null) {
        throw new StreamFormatException(
            "vmdescription has more than one JSON value", jsonOffsetBytes);
      }
    } catch (JacksonException e) {
      throw new StreamFormatException(
          "vmdescription is not JSON: " + e.getOriginalMessage(),
          jsonOffsetBytes
              + Math.max(0, e.getLocation() == null ? 0 : e.getLocation().getByteOffset()));
    }
    if (devices == null) {
      throw new StreamFormatException("vmdescription lists no devices", jsonOffsetBytes);
    }
    return devices;
  }

  /** The same without devices that stand before the others. */
  static List<VmDescriptionDevice> listWithout(
      List<SectionFull> early, byte[] json, long jsonOffsetBytes) throws StreamFormatException {
    List<VmDescriptionDevice> devices = new ArrayList<>(listIn(json, jsonOffsetBytes));
    for (SectionFull section : early) {
      boolean _ = devices.remove(new VmDescriptionDevice(section.name(), section.instanceId()));
    }
    return devices;
  }

  private static List<VmDescriptionDevice> devices(JsonParser parser, long jsonOffsetBytes)
      throws StreamFormatException {
    List<VmDescriptionDevice> devices = new ArrayList<>();
    while (parser.nextToken() == JsonToken.START_OBJECT) {
      long start = jsonOffsetBytes + parser.currentTokenLocation().getByteOffset();
      String name = null;
      Integer instanceId = null;
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        String property = parser.currentName();
        JsonToken value = parser.nextToken();
        if (property.equals("name") && value == JsonToken.VALUE_STRING) {
          name = parser.getString();
        } else if (property.equals("instance_id") && value == JsonToken.VALUE_NUMBER_INT) {
          instanceId = (int) parser.getLongValue();
        } else {
          parser.skipChildren();
        }
      }
      devices.add(device(name, instanceId, start));
    }
    return devices;
  }

  private static VmDescriptionDevice device(
      @Nullable String name, @Nullable Integer instanceId, long start)
      throws StreamFormatException {
    if (name == null || instanceId == null) {
      throw new StreamFormatException(
          "vmdescription has a device without name or instance_id", start);
    }
    return new VmDescriptionDevice(name, instanceId);
  }
}
