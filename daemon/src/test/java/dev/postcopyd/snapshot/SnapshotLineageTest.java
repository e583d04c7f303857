package dev.postcopyd.snapshot;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SnapshotLineageTest {
  private static MachineState machine(Optional<String> description) {
    return new MachineState(
        new byte[0],
        Optional.empty(),
        2,
        new byte[0],
        BesideRam.NONE,
        new byte[0],
        description.map(text -> text.getBytes(UTF_8)));
  }

  private static String description(MachineState machine) {
    return new String(machine.vmDescriptionJson().orElseThrow(), UTF_8);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{} | {\"postcopyd\":{\"base\":\"/a \\\"b\\\"\"}}",
        "{\"page_size\":4096,\"devices\":[]} | {\"postcopyd\":{\"base\":\"/a \\\"b\\\"\"},\"page_size\":4096,\"devices\":[]}"
      })
  void standsFirst(String before, String after) {
    SnapshotLineage lineage = SnapshotLineage.from("/a \"b\"");
    MachineState marked = lineage.in(machine(Optional.of(before)));
    assertThat(description(marked)).isEqualTo(after);
    assertThat(SnapshotLineage.of(marked)).contains(lineage);
    // The next one's takes its place.
    MachineState again = SnapshotLineage.full("because").in(marked);
    assertThat(SnapshotLineage.of(again)).contains(SnapshotLineage.full("because"));
    assertThat(description(SnapshotLineage.from("/a \"b\"").in(again))).isEqualTo(after);
  }

  @Test
  void nothingIsSaidWithoutADescription() {
    MachineState none = SnapshotLineage.from("/a").in(machine(Optional.empty()));
    assertThat(none.vmDescriptionJson()).isEmpty();
    assertThat(SnapshotLineage.of(none)).isEmpty();
    assertThat(SnapshotLineage.of(machine(Optional.of("{\"page_size\":4096}")))).isEmpty();
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {"{\"postcopyd\":{", "{\"postcopyd\":7}", "{\"postcopyd\":", "[]", "{", "x"})
  void whatIsDamagedSaysNothingAndStays(String text) {
    assertThat(SnapshotLineage.of(machine(Optional.of(text)))).isEmpty();
    MachineState marked = SnapshotLineage.full("x").in(machine(Optional.of(text)));
    assertThat(marked.vmDescriptionJson()).isPresent();
  }
}
