package dev.postcopyd.snapshot;

import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamFormatException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;

/**
 * The device sections of a snapshot, one by one, for people to look at: their bytes themselves are
 * passed on whole.
 *
 * <p>Immutable.
 *
 * @param sections in the order of the file
 * @param runState what {@code globalstate} says of the guest when it was saved, e.g. {@code paused}
 */
public record DeviceState(List<DeviceSection> sections, Optional<String> runState) {
  private static final String GLOBAL_STATE = "globalstate";

  public DeviceState {
    sections = List.copyOf(sections);
  }

  /**
   * Cuts a machine's device sections up.
   *
   * @param deviceSectionsOffsetBytes where in the file they begin
   * @throws StreamFormatException if a section has no end, or is not the one that the vmdescription
   *     lists, or the vmdescription is not JSON of its kind
   */
  public static DeviceState of(MachineState machineState, long deviceSectionsOffsetBytes)
      throws StreamFormatException {
    byte[] bytes = machineState.deviceSections();
    Optional<byte[]> json = machineState.vmDescriptionJson();
    Optional<List<VmDescriptionDevice>> expected =
        json.isEmpty()
            ? Optional.empty()
            : Optional.of(
                VmDescriptionDevice.listWithout(
                    machineState.besideRam().earlyDevices(),
                    json.get(),
                    deviceSectionsOffsetBytes
                        + bytes.length
                        + 1
                        + StreamFormat.VMDESCRIPTION_HEADER_BYTES));
    List<DeviceSection> sections =
        new DeviceSectionChain(bytes, deviceSectionsOffsetBytes, expected).walk();
    return new DeviceState(
        sections,
        sections.stream()
            .filter(section -> section.name().equals(GLOBAL_STATE))
            .findFirst()
            .flatMap(section -> runState(bytes, deviceSectionsOffsetBytes, section)));
  }

  /** The payload of globalstate begins with a length (be32) and a text that a NUL ends. */
  private static Optional<String> runState(byte[] bytes, long offsetBytes, DeviceSection section) {
    int sectionStart = (int) (section.offsetBytes() - offsetBytes);
    int start = sectionStart + DeviceSectionChain.headerBytes(section.name()) + Integer.BYTES;
    int limit = sectionStart + section.lengthBytes() - StreamFormat.FOOTER_BYTES;
    int end = start;
    while (end < limit && bytes[end] > 0x20 && bytes[end] < 0x7f) {
      end++;
    }
    return end > start && end < limit && bytes[end] == 0
        ? Optional.of(new String(bytes, start, end - start, StandardCharsets.US_ASCII))
        : Optional.empty();
  }
}
