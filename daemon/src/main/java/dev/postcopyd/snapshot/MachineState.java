package dev.postcopyd.snapshot;

import java.util.Optional;

/**
 * Everything of a QEMU migration file that is not RAM. The bytes are opaque and handed on
 * unchanged; they are looked into only to find section bounds and the {@code globalstate} ({@link
 * DeviceState}).
 *
 * <p>Immutable and safe for any thread: the constructor takes ownership of the arrays, which nobody
 * may write to afterwards, and every accessor answers a copy. None of them belongs on a hot path.
 */
public final class MachineState {
  private final byte[] configuration;
  private final Optional<String> machineType;
  private final int ramSectionId;
  private final byte[] commands;
  private final BesideRam besideRam;
  private final byte[] deviceSections;
  private final Optional<byte[]> vmDescriptionJson;

  /**
   * @param configuration see {@link #configuration()}
   * @param machineType see {@link #machineType()}
   * @param ramSectionId see {@link #ramSectionId()}
   * @param commands see {@link #commands()}
   * @param besideRam see {@link #besideRam()}
   * @param deviceSections see {@link #deviceSections()}
   * @param vmDescriptionJson see {@link #vmDescriptionJson()}
   */
  public MachineState(
      byte[] configuration,
      Optional<String> machineType,
      int ramSectionId,
      byte[] commands,
      BesideRam besideRam,
      byte[] deviceSections,
      Optional<byte[]> vmDescriptionJson) {
    this.configuration = configuration;
    this.machineType = machineType;
    this.ramSectionId = ramSectionId;
    this.commands = commands;
    this.besideRam = besideRam;
    this.deviceSections = deviceSections;
    this.vmDescriptionJson = vmDescriptionJson;
  }

  /**
   * The configuration section as it stands in the file, from its type byte {@code 07} to the end of
   * its subsections; empty if there is none.
   */
  public byte[] configuration() {
    return configuration.clone();
  }

  /** Full versioned name, e.g. {@code pc-i440fx-10.0}; empty without configuration. */
  public Optional<String> machineType() {
    return machineType;
  }

  /** Id of the RAM section. */
  public int ramSectionId() {
    return ramSectionId;
  }

  /**
   * The command records found between the RAM sections (e.g. SWITCHOVER_START), whole and in order.
   */
  public byte[] commands() {
    return commands.clone();
  }

  /** The sections that are neither RAM nor among {@link #deviceSections()}. */
  public BesideRam besideRam() {
    return besideRam;
  }

  /** All bytes from the first device section to the last one's footer. */
  public byte[] deviceSections() {
    return deviceSections.clone();
  }

  /** How many bytes {@link #deviceSections()} has, without copying them. */
  public int deviceSectionsLengthBytes() {
    return deviceSections.length;
  }

  /** The vmdescription's JSON; absent with {@code suppress-vmdesc=on}. */
  public Optional<byte[]> vmDescriptionJson() {
    return vmDescriptionJson.map(byte[]::clone);
  }

  @Override
  public String toString() {
    return "MachineState[machineType=%s, deviceSections=%d bytes, vmDescriptionJson=%s bytes]"
        .formatted(
            machineType.orElse("none"),
            deviceSections.length,
            vmDescriptionJson.map(json -> String.valueOf(json.length)).orElse("no"));
  }
}
