package dev.postcopyd.snapshot;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** The reader against files that QEMU 10.0.2 made, and against what QEMU itself said of them. */
class GoldenSnapshotTest {
  private static final Pattern NORMAL_PAGES = Pattern.compile("\"normal\": (\\d+)");
  private static final Pattern MACHINE = Pattern.compile("-M ([a-z0-9.-]+)");

  @TempDir private Path folder;

  static Stream<String> cases() throws IOException {
    return GoldenSnapshot.loadableCases();
  }

  @ParameterizedTest
  @MethodSource("cases")
  void isReadAsQemuMadeIt(String caseName) throws IOException {
    GoldenSnapshot golden = GoldenSnapshot.of(caseName);
    try (Snapshot snapshot = open(golden)) {
      assertThat(snapshot.format()).isEqualTo(SnapshotFormat.MAPPED_RAM);
      assertThat(snapshot.name()).isEqualTo(golden.file().toString());
      assertThat(
              snapshot.blocks().stream()
                  .collect(Collectors.toMap(SnapshotBlock::name, SnapshotBlock::usedLengthBytes)))
          .containsExactlyInAnyOrderEntriesOf(golden.ramBlocks());

      MachineState state = snapshot.machineState().orElseThrow();
      assertThat(state.machineType()).contains(group(MACHINE, golden.recipe("command")));
      assertThat(state.commands()).isEqualTo(HexFormat.of().parseHex("08000b0000"));
      assertThat(state.vmDescriptionJson().isPresent()).isEqualTo(!caseName.equals("no-vmdesc"));

      DeviceState devices =
          DeviceState.of(state, ((MappedRamFile) snapshot).deviceSectionsOffsetBytes());
      assertThat(devices.runState()).contains(golden.recipe("state"));
      assertThat(devices.sections()).first().extracting(DeviceSection::name).isEqualTo("timer");
      assertThat(devices.sections())
          .extracting(DeviceSection::name)
          .contains("cpu_common", "globalstate", "fw_cfg");
      assertThat(devices.sections().stream().mapToLong(DeviceSection::lengthBytes).sum())
          .isEqualTo(state.deviceSectionsLengthBytes());
    }
  }

  /** A guest that is stopped is saved in one pass: every page that QEMU counted has its bit. */
  @ParameterizedTest
  @CsvSource({
    "pc",
    "q35",
    "offset",
    "multifd",
    "devices",
    "two-cpus",
    "no-vmdesc",
    "zero-pages-written",
    "zero-pages-legacy"
  })
  void storedPagesAreThoseThatQemuCounted(String caseName) throws IOException {
    GoldenSnapshot golden = GoldenSnapshot.of(caseName);
    try (Snapshot snapshot = open(golden)) {
      assertThat(snapshot.blocks().stream().mapToLong(SnapshotBlock::storedPages).sum())
          .isEqualTo(Long.parseLong(group(NORMAL_PAGES, golden.recipe("query-migrate"))));
    }
  }

  @Test
  void zeroPagesMayBeStored() throws IOException {
    GoldenSnapshot golden = GoldenSnapshot.of("zero-pages-written");
    try (Snapshot snapshot = open(golden)) {
      assertThat(snapshot.blocks()).allMatch(block -> block.storedPages() == block.pageCount());
    }
  }

  @Test
  void eachCpuHasItsSections() throws IOException {
    GoldenSnapshot golden = GoldenSnapshot.of("two-cpus");
    try (Snapshot snapshot = open(golden)) {
      DeviceState devices =
          DeviceState.of(
              snapshot.machineState().orElseThrow(),
              ((MappedRamFile) snapshot).deviceSectionsOffsetBytes());

      assertThat(devices.sections().stream().filter(section -> section.name().equals("cpu")))
          .extracting(DeviceSection::instanceId)
          .containsExactly(0, 1);
    }
  }

  /** QEMU's own file: the section begins behind RAM's beginning and ends behind its end. */
  @Test
  void dirtyBitmapsAreKeptAsTheyAre() throws IOException {
    try (Snapshot snapshot = open(GoldenSnapshot.of("refused-dirty-bitmap"))) {
      MachineState state = snapshot.machineState().orElseThrow();
      byte[] sections = state.besideRam().sections();
      assertThat(new String(sections, StandardCharsets.ISO_8859_1)).contains("dirty-bitmap");
      assertThat(sections[0]).isEqualTo((byte) 1);
      assertThat(sections[sections.length - 5]).isEqualTo((byte) 0x7e);
      assertThat(state.deviceSections()[0]).isEqualTo((byte) 4);
      assertThat(DeviceState.of(state, 0).sections()).isNotEmpty();
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          refused-plain-stream  | a migration stream, but not a mapped-ram file: it was saved without the capability mapped-ram at byte offset 8 (0x8)
          refused-ignore-shared | saved with the capability x-ignore-shared: shared memory is not in the file at byte offset 8 (0x8)
          """)
  void whatCannotBeLoadedLazilyIsRefusedByName(String caseName, String message) throws IOException {
    NativeFile file = NativeFile.open(GoldenSnapshot.of(caseName).file(), NativeFile.Mode.READ);

    assertThatThrownBy(() -> SnapshotOpener.open(file, 0))
        .isInstanceOf(StreamFormatException.class)
        .hasMessage(message);
    assertThatThrownBy(file::fd).isInstanceOf(IllegalStateException.class);
  }

  @ParameterizedTest
  @CsvSource({"pc", "no-vmdesc"})
  void aFileTruncatedAtAnySixtyFourthIsRefused(String caseName) throws IOException {
    Path copy = folder.resolve("truncated.mr");
    GoldenSnapshot golden = GoldenSnapshot.of(caseName);
    Files.copy(golden.file(), copy);
    long sizeBytes = Files.size(copy);
    for (int part = 63; part >= 0; part--) {
      long length = sizeBytes * part / 64;
      try (NativeFile out = NativeFile.open(copy, NativeFile.Mode.READ_WRITE_CREATE)) {
        out.truncate(length);
      }
      NativeFile truncated = NativeFile.open(copy, NativeFile.Mode.READ);
      assertThatThrownBy(() -> SnapshotOpener.open(truncated, 0))
          .as("%d of %d bytes", length, sizeBytes)
          .isInstanceOf(StreamFormatException.class)
          .hasMessageMatching(
              part == 0
                  ? "not a snapshot: the file is empty at byte offset 0 \\(0x0\\)"
                  : "truncated: RAM has 33890304 bytes, but the file only "
                      + length
                      + " at byte offset 91 \\(0x5b\\)"
                      + "|(bitmap|pages) of block '[a-z./@-]+' .* end beyond the end of the file \\("
                      + length
                      + " bytes\\) at byte offset .*");
      assertThatThrownBy(truncated::fd).isInstanceOf(IllegalStateException.class);
    }
  }

  /** The pages that a loader put at a known guest address must be found where the reader says. */
  @Test
  void pagesLieWhereTheReaderSays() throws IOException {
    GoldenSnapshot golden = GoldenSnapshot.of("pc");
    try (Snapshot snapshot = open(golden)) {
      SnapshotBlock ram = snapshot.blocks().getFirst();
      long firstPage = Long.parseLong(golden.recipe("text.address")) / 4096;
      int pages = Integer.parseInt(golden.recipe("text.pages"));

      assertThat(ram.name()).isEqualTo("pc.ram");
      assertThat(ram.runLength(firstPage, 100_000)).isEqualTo(pages);
      assertThat(ram.isStored(firstPage - 1)).isFalse();
      byte[] content = snapshot.file().readBytesAt(ram.pagesOffsetBytes() + firstPage * 4096, 16);
      assertThat(new String(content, StandardCharsets.US_ASCII)).isPrintable();
    }
  }

  private static Snapshot open(GoldenSnapshot golden) throws IOException {
    return SnapshotOpener.open(
        NativeFile.open(golden.file(), NativeFile.Mode.READ), golden.offsetBytes());
  }

  private static String group(Pattern pattern, String text) {
    Matcher matcher = pattern.matcher(text);
    assertThat(matcher.find()).as(text).isTrue();
    return matcher.group(1);
  }
}
