package dev.postcopyd.stream;

import java.util.List;

/**
 * What a migration stream consists of, at its top level. A section's payload is not part of its
 * record: it follows behind it, and so do a command's payload and a vmdescription's JSON.
 */
public sealed interface StreamRecord {
  /**
   * The machine that the stream belongs to; the first record.
   *
   * @param machineType full versioned name, e.g. {@code pc-i440fx-10.0}
   */
  record Configuration(String machineType, List<ConfigurationSubsection> subsections)
      implements StreamRecord {
    public Configuration {
      subsections = List.copyOf(subsections);
    }

    /** The capabilities that the saving side had on, as far as the stream tells them. */
    public List<String> capabilities() {
      return subsections.stream()
          .filter(ConfigurationSubsection.Capabilities.class::isInstance)
          .flatMap(
              subsection -> ((ConfigurationSubsection.Capabilities) subsection).names().stream())
          .toList();
    }
  }

  /** The first part of a section that is saved in many. */
  record SectionStart(int sectionId, String name, int instanceId, int version)
      implements StreamRecord {}

  /** A further part of a section that has been started. */
  record SectionPart(int sectionId) implements StreamRecord {}

  /** The last part of a section that has been started. */
  record SectionEnd(int sectionId) implements StreamRecord {}

  /** A section that is saved in one piece: a device. */
  record SectionFull(int sectionId, String name, int instanceId, int version)
      implements StreamRecord {}

  /** An order to the loading side. */
  record Command(int id, int payloadLengthBytes) implements StreamRecord {}

  /** Nothing but the vmdescription may follow. */
  record EndOfStream() implements StreamRecord {}

  /** JSON that describes the device sections, for people and tools. */
  record VmDescription(int jsonLengthBytes) implements StreamRecord {}
}
