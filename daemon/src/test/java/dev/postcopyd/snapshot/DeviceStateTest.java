package dev.postcopyd.snapshot;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class DeviceStateTest {
  private static final long OFFSET = 0x4a036;

  /** Behind the device sections: the end marker and the head of the vmdescription. */
  private static final long JSON_OFFSET = OFFSET + SyntheticSnapshot.DEVICES.length + 6;

  @Test
  void cutsTheSectionsUp() throws IOException {
    DeviceState state =
        DeviceState.of(machineState(SyntheticSnapshot.DEVICES, SyntheticSnapshot.JSON), OFFSET);

    // Footers of 5 bytes; the first payload has 10 bytes, among them an imitation of a footer.
    assertThat(state.sections())
        .containsExactly(
            new DeviceSection("timer", 0, 0, 2, 0x4a036, 37),
            new DeviceSection("globalstate", 0, 43, 1, 0x4a05b, 134));
    assertThat(state.runState()).contains("paused");
  }

  @Test
  void cutsThemUpWithoutVmDescriptionToo() throws IOException {
    DeviceState state = DeviceState.of(machineState(SyntheticSnapshot.DEVICES, null), OFFSET);

    assertThat(state.sections())
        .extracting(DeviceSection::name)
        .containsExactly("timer", "globalstate");
    assertThat(state.runState()).contains("paused");
  }

  @Test
  void noDevicesAreNoTrouble() throws IOException {
    assertThat(DeviceState.of(machineState(new byte[0], "{\"devices\": []}"), OFFSET))
        .isEqualTo(new DeviceState(List.of(), Optional.empty()));
  }

  @Test
  void aSectionThatIsNotListedIsRefused() {
    assertRefused(
        SyntheticSnapshot.JSON.replace("timer", "clock"),
        "device section 'timer' (instance 0) is not the one that the vmdescription lists as number 1"
            + " at byte offset 303158 (0x4a036)");
    assertRefused(
        SyntheticSnapshot.JSON.replace(
            "\"globalstate\", \"instance_id\": 0", "\"globalstate\", \"instance_id\": 1"),
        "device section 'timer' (instance 0) has no footer at byte offset 303158 (0x4a036)");
  }

  @Test
  void aListOfMoreThanThereIsIsRefused() {
    assertRefused(
        SyntheticSnapshot.JSON.replace("}]}", "}, {\"name\": \"more\", \"instance_id\": 0}]}"),
        "the vmdescription lists 3 device sections, but there are 2 at byte offset 303329 (0x4a0e1)");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          {"page_size": 4096}                       | vmdescription lists no devices
          {"devices": 7}                            | vmdescription lists no devices
          []                                        | vmdescription lists no devices
          {"devices": []} {}                        | vmdescription has more than one JSON value
          {"devices": [{"name": "timer"}]}          | vmdescription has a device without name or instance_id
          {"devices": [{"instance_id": 0}]}         | vmdescription has a device without name or instance_id
          {"devices": [{"name": 3, "instance_id": 0}]} | vmdescription has a device without name or instance_id
          {"devices": [                             | vmdescription is not JSON
          {"devices": [{"name": "timer", "instance_id": 99999999999999999999}]} | vmdescription is not JSON
          {"a": nul}                                | vmdescription is not JSON
          """)
  void aVmDescriptionOfAnotherKindIsRefused(String json, String message) {
    assertThatThrownBy(() -> DeviceState.of(machineState(SyntheticSnapshot.DEVICES, json), OFFSET))
        .isInstanceOfSatisfying(
            StreamFormatException.class,
            e -> assertThat(e.offsetBytes()).isBetween(JSON_OFFSET, JSON_OFFSET + json.length()))
        .hasMessageStartingWith(message);
  }

  @Test
  void aDeeplyNestedVmDescriptionIsRefused() {
    assertRefused("{\"a\": " + "[".repeat(100_000), "vmdescription is not JSON:.*nesting depth.*");
  }

  @Test
  void bytesThatAreNoSectionAreRefused() {
    byte[] devices = SyntheticSnapshot.DEVICES.clone();
    devices[0] = 1;
    assertThatThrownBy(() -> DeviceState.of(machineState(devices, null), OFFSET))
        .hasMessage("no device section begins at byte offset 303158 (0x4a036)");

    byte[] withoutFooter = SyntheticSnapshot.DEVICES.clone();
    withoutFooter[withoutFooter.length - 1] = 0x2c;
    assertThatThrownBy(() -> DeviceState.of(machineState(withoutFooter, null), OFFSET))
        .hasMessage(
            "device section 'globalstate' (instance 0) has no footer at byte offset 303195 (0x4a05b)");
  }

  @Test
  void aRunStateThatIsNoTextIsNone() throws IOException {
    byte[] devices = SyntheticSnapshot.DEVICES.clone();
    devices[37 + 25 + 4] = 0;

    assertThat(DeviceState.of(machineState(devices, SyntheticSnapshot.JSON), OFFSET).runState())
        .isEmpty();
  }

  private static void assertRefused(String json, String message) {
    assertThatThrownBy(() -> DeviceState.of(machineState(SyntheticSnapshot.DEVICES, json), OFFSET))
        .isInstanceOf(StreamFormatException.class)
        .hasMessageMatching("(?s)" + (message.endsWith(".*") ? message : Pattern.quote(message)));
  }

  private static MachineState machineState(byte[] devices, @Nullable String json) {
    return new MachineState(
        new byte[0],
        Optional.of(SyntheticSnapshot.MACHINE_TYPE),
        1,
        new byte[0],
        BesideRam.NONE,
        devices,
        Optional.ofNullable(json).map(text -> text.getBytes(StandardCharsets.US_ASCII)));
  }
}
