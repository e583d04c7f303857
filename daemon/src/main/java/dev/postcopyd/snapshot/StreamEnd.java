package dev.postcopyd.snapshot;

import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamRecord.SectionFull;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;

/**
 * What a migration stream ends in, looked at when it has come whole: whether all of its devices are
 * there, before anybody gives up the guest that they are of. Stateless.
 */
public final class StreamEnd {
  private StreamEnd() {}

  /**
   * Checks device sections, end marker and vmdescription against each other.
   *
   * @param tail all of them
   * @param offsetBytes where in the stream they begin, for messages
   * @param early devices that the vmdescription lists too, but that stand before RAM
   * @throws StreamFormatException if something is missing, or too much
   */
  public static void check(byte[] tail, long offsetBytes, List<SectionFull> early)
      throws StreamFormatException {
    StreamTail parts = StreamTail.split(tail, offsetBytes);
    Optional<byte[]> json = parts.vmDescriptionJson();
    if (json.isEmpty()) {
      return; // its chain of sections has been followed
    }
    List<VmDescriptionDevice> expected =
        VmDescriptionDevice.listWithout(early, json.get(), offsetBytes);
    List<DeviceSection> _ =
        new DeviceSectionChain(parts.deviceSections(), offsetBytes, Optional.of(expected)).walk();
  }

  /**
   * The machine whose stream ends so.
   *
   * @param configuration what stands before RAM in a snapshot of it
   * @param besideRam what stands between the beginning and the end of RAM
   * @param tail device sections, end marker and, if there is one, vmdescription
   * @throws StreamFormatException if there is no telling them apart
   */
  public static MachineState machineState(
      byte[] configuration,
      Optional<String> machineType,
      int ramSectionId,
      byte[] besideRam,
      byte[] tail)
      throws StreamFormatException {
    StreamTail parts = StreamTail.split(tail, 0);
    return new MachineState(
        configuration,
        machineType,
        ramSectionId,
        besideRam,
        BesideRam.NONE,
        parts.deviceSections(),
        parts.vmDescriptionJson());
  }

  /**
   * A vmdescription for device sections that have come without one, as after a postcopy migration:
   * their names, which is what readers go by.
   *
   * @throws StreamFormatException if they are no device sections
   */
  public static byte[] describe(byte[] deviceSections) throws StreamFormatException {
    StringBuilder json = new StringBuilder("{\"devices\":[");
    String separator = "";
    for (DeviceSection section :
        new DeviceSectionChain(deviceSections, 0, Optional.empty()).walk()) {
      json.append(separator)
          .append("{\"name\":\"")
          .append(section.name().replace("\\", "\\\\").replace("\"", "\\\""))
          .append("\",\"instance_id\":")
          .append(Integer.toUnsignedString(section.instanceId()))
          .append('}');
      separator = ",";
    }
    return json.append("]}").toString().getBytes(StandardCharsets.US_ASCII);
  }
}
