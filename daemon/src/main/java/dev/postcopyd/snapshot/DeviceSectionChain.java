package dev.postcopyd.snapshot;

import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamFormatException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * Follows the chain of device sections. A section's payload is opaque and has no length; where it
 * ends is found by its footer, which carries the section's id and must be followed by the next
 * section or by the end. Where a vmdescription lists the sections, their names and instance ids
 * must be the ones listed, in that order: then no payload can be mistaken for a footer, unless it
 * imitates its own footer and the right successor together.
 *
 * <p>Used once, by one thread.
 */
final class DeviceSectionChain {
  // Type, section id, name length, instance id, version.
  private static final int HEADER_FIXED_BYTES = 1 + 4 + 1 + 4 + 4;
  private static final int NAME_LENGTH_AT = 5;

  private final byte[] bytes;
  private final ByteBuffer integers;
  private final long offsetBytes;
  private final Optional<List<VmDescriptionDevice>> expected;
  private final List<DeviceSection> sections = new ArrayList<>();

  /**
   * @param bytes all device sections
   * @param offsetBytes where in the file they begin
   * @param expected what the vmdescription lists, if there is one
   */
  DeviceSectionChain(byte[] bytes, long offsetBytes, Optional<List<VmDescriptionDevice>> expected) {
    this.bytes = bytes;
    this.integers = ByteBuffer.wrap(bytes);
    this.offsetBytes = offsetBytes;
    this.expected = expected;
  }

  /** All sections; together they are exactly the bytes. */
  List<DeviceSection> walk() throws StreamFormatException {
    int at = 0;
    while (at < bytes.length) {
      DeviceSection header = headerAt(at);
      if (header == null) {
        throw new StreamFormatException("no device section begins", offsetBytes + at);
      }
      if (!isExpected(header, sections.size())) {
        throw new StreamFormatException(
            "device section '%s' (instance %d) is not the one that the vmdescription lists as number %d"
                .formatted(header.name(), header.instanceId(), sections.size() + 1),
            header.offsetBytes());
      }
      int end = endOf(at, header);
      sections.add(header.withLength(end - at));
      at = end;
    }
    if (expected.isPresent() && expected.get().size() != sections.size()) {
      throw new StreamFormatException(
          "the vmdescription lists %d device sections, but there are %d"
              .formatted(expected.get().size(), sections.size()),
          offsetBytes + bytes.length);
    }
    return sections;
  }

  static int headerBytes(String name) {
    return HEADER_FIXED_BYTES + name.length();
  }

  /** One past the footer of the section that begins at {@code start}. */
  private int endOf(int start, DeviceSection header) throws StreamFormatException {
    int last = bytes.length - StreamFormat.FOOTER_BYTES;
    for (int at = start + headerBytes(header.name()); at <= last; at++) {
      if (bytes[at] == StreamFormat.SECTION_FOOTER
          && integers.getInt(at + 1) == header.sectionId()) {
        int end = at + StreamFormat.FOOTER_BYTES;
        if (end == bytes.length) {
          return end;
        }
        DeviceSection next = headerAt(end);
        if (next != null && isExpected(next, sections.size() + 1)) {
          return end;
        }
      }
    }
    throw new StreamFormatException(
        "device section '%s' (instance %d) has no footer"
            .formatted(header.name(), header.instanceId()),
        header.offsetBytes());
  }

  private boolean isExpected(DeviceSection header, int index) {
    if (expected.isEmpty()) {
      return true;
    }
    List<VmDescriptionDevice> devices = expected.get();
    return index < devices.size()
        && devices.get(index).equals(new VmDescriptionDevice(header.name(), header.instanceId()));
  }

  /** The section whose header stands at {@code at}, its length unknown; null if none does. */
  private @Nullable DeviceSection headerAt(int at) {
    if (bytes.length - at < HEADER_FIXED_BYTES || bytes[at] != StreamFormat.TYPE_SECTION_FULL) {
      return null;
    }
    int nameLength = bytes[at + NAME_LENGTH_AT] & 0xff;
    int nameStart = at + NAME_LENGTH_AT + 1;
    int behindName = nameStart + nameLength;
    if (nameLength == 0 || bytes.length - at < HEADER_FIXED_BYTES + nameLength) {
      return null;
    }
    for (int i = nameStart; i < behindName; i++) {
      if (bytes[i] < 0x20 || bytes[i] > 0x7e) {
        return null;
      }
    }
    return new DeviceSection(
        new String(bytes, nameStart, nameLength, StandardCharsets.US_ASCII),
        integers.getInt(behindName),
        integers.getInt(at + 1),
        integers.getInt(behindName + 4),
        offsetBytes + at,
        0);
  }
}
