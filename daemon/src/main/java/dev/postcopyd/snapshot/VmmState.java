package dev.postcopyd.snapshot;

import dev.postcopyd.stream.ConfigurationSubsection;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamRecord.Configuration;
import dev.postcopyd.stream.StreamRecord.SectionFull;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/**
 * The state of a VMM that is no QEMU, in the place of device state: one section that holds its
 * bytes as they are. So a snapshot of such a guest is a mapped-ram file like any other, except that
 * no QEMU has the machine {@value #MACHINE_TYPE}, and each says so. Stateless.
 */
public final class VmmState {
  /** What such snapshots have for a machine type. */
  public static final String MACHINE_TYPE = "postcopyd-vmm";

  private static final String SECTION = "postcopyd/vmm-state";
  private static final int RAM_SECTION_ID = 2;
  private static final int SECTION_ID = 3;

  private VmmState() {}

  /** A machine with these bytes for a state. */
  public static MachineState machineOf(byte[] state) {
    byte[] configuration =
        new StreamEncoder()
            .record(
                new Configuration(
                    MACHINE_TYPE,
                    List.of(new ConfigurationSubsection.Capabilities(List.of("mapped-ram")))))
            .toByteArray();
    byte[] section =
        new StreamEncoder()
            .record(new SectionFull(SECTION_ID, SECTION, 0, 1))
            .bytes(state)
            .footer(SECTION_ID)
            .toByteArray();
    String description =
        "{\"page_size\":4096,\"devices\":[{\"name\":\"%s\",\"instance_id\":0,\"version\":1,"
                .formatted(SECTION)
            + "\"fields\":[{\"name\":\"state\",\"type\":\"buffer\",\"size\":%d}]}]}"
                .formatted(state.length);
    return new MachineState(
        configuration,
        Optional.of(MACHINE_TYPE),
        RAM_SECTION_ID,
        new byte[0],
        BesideRam.NONE,
        section,
        Optional.of(description.getBytes(StandardCharsets.US_ASCII)));
  }

  /** The bytes of such a machine; empty for any other. */
  public static Optional<byte[]> of(MachineState machine) {
    if (!machine.machineType().equals(Optional.of(MACHINE_TYPE))) {
      return Optional.empty();
    }
    byte[] section = machine.deviceSections();
    int start = DeviceSectionChain.headerBytes(SECTION);
    int end = section.length - StreamFormat.FOOTER_BYTES;
    return end < start ? Optional.empty() : Optional.of(Arrays.copyOfRange(section, start, end));
  }
}
