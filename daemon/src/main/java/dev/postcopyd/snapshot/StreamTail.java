package dev.postcopyd.snapshot;

import dev.postcopyd.stream.OpaqueTail;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamFormatException;
import java.util.Arrays;
import java.util.Optional;

/**
 * Splits what follows a snapshot's RAM into the device sections and the vmdescription.
 *
 * <p>Device sections carry no length, so they are delimited from the end of the file. With a
 * vmdescription the file ends in {@code 00 06 <length> {...}}, and JSON has no control characters:
 * its text is the longest run of text that ends the file, but for up to three length bytes that may
 * look like text. So there is one place at most where it can begin. Without a vmdescription ({@code
 * suppress-vmdesc=on}) the file ends in the end marker {@code 00}, and then the chain of device
 * sections must lead exactly there.
 */
final class StreamTail {
  /** {@code 00 06} and the length. */
  private static final int HEAD_BYTES = 1 + StreamFormat.VMDESCRIPTION_HEADER_BYTES;

  private final byte[] deviceSections;
  private final Optional<byte[]> vmDescriptionJson;

  private StreamTail(byte[] deviceSections, Optional<byte[]> vmDescriptionJson) {
    this.deviceSections = deviceSections;
    this.vmDescriptionJson = vmDescriptionJson;
  }

  /**
   * Splits the end of a file.
   *
   * @param tail all bytes from the first device section to the end of the file
   * @param offsetBytes where in the file they begin
   */
  static StreamTail split(byte[] tail, long offsetBytes) throws StreamFormatException {
    int jsonStart = OpaqueTail.vmDescriptionStart(tail, tail.length);
    int deviceEnd = jsonStart < 0 ? endMarker(tail, offsetBytes) : jsonStart - HEAD_BYTES;
    requireBound(deviceEnd, SnapshotLimits.MAX_DEVICE_STATE_BYTES, "device state", offsetBytes);
    byte[] devices = Arrays.copyOf(tail, deviceEnd);
    requireFooter(devices, offsetBytes);
    if (jsonStart < 0) {
      new DeviceSectionChain(devices, offsetBytes, Optional.empty()).walk();
      return new StreamTail(devices, Optional.empty());
    }
    requireBound(
        tail.length - jsonStart,
        SnapshotLimits.MAX_VMDESCRIPTION_BYTES,
        "vmdescription",
        offsetBytes + jsonStart);
    return new StreamTail(devices, Optional.of(Arrays.copyOfRange(tail, jsonStart, tail.length)));
  }

  /** Owned by the caller from now on. */
  byte[] deviceSections() {
    return deviceSections;
  }

  /** Owned by the caller from now on; empty if there is no vmdescription. */
  Optional<byte[]> vmDescriptionJson() {
    return vmDescriptionJson;
  }

  private static void requireFooter(byte[] devices, long offsetBytes) throws StreamFormatException {
    if (devices.length == 0) {
      return;
    }
    if (devices[0] != StreamFormat.TYPE_SECTION_FULL) {
      throw new StreamFormatException(
          "section type 0x%02x where the device sections begin".formatted(devices[0]), offsetBytes);
    }
    int footer = devices.length - StreamFormat.FOOTER_BYTES;
    if (footer < 0 || devices[footer] != StreamFormat.SECTION_FOOTER) {
      throw new StreamFormatException(
          "no section footer before the end marker", offsetBytes + devices.length);
    }
  }

  private static int endMarker(byte[] tail, long offsetBytes) throws StreamFormatException {
    if (tail.length == 0) {
      throw new StreamFormatException("missing end marker: the file ends behind RAM", offsetBytes);
    }
    if (tail[tail.length - 1] != StreamFormat.TYPE_END_OF_STREAM) {
      throw new StreamFormatException(
          ("missing end marker: the file ends in 0x%02x, and not with a vmdescription"
                  + " (truncated, or foreign bytes behind the stream)")
              .formatted(tail[tail.length - 1]),
          offsetBytes + tail.length - 1);
    }
    return tail.length - 1;
  }

  private static void requireBound(int lengthBytes, int limit, String what, long at)
      throws StreamFormatException {
    if (lengthBytes > limit) {
      throw new StreamFormatException(
          "%s of %d bytes is too large (at most %d)".formatted(what, lengthBytes, limit), at);
    }
  }
}
