package dev.postcopyd.snapshot;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class MappedRamWriterTest {
  @TempDir private Path folder;

  static Stream<String> cases() throws IOException {
    return GoldenSnapshot.loadableCases();
  }

  @ParameterizedTest
  @MethodSource("cases")
  void whatQemuWroteComesBackAsItWas(String caseName) throws IOException {
    GoldenSnapshot golden = GoldenSnapshot.of(caseName);
    Path copy = folder.resolve("copy.mr");
    try (MappedRamFile original = open(golden.file(), golden.offsetBytes())) {
      long sizeBytes = copy(original, copy, golden.offsetBytes());

      assertThat(Files.size(copy)).isEqualTo(sizeBytes);
      try (MappedRamFile written = open(copy, golden.offsetBytes())) {
        // QEMU lays its files out in the same way, to the byte, up to the end of RAM.
        assertThat(written.layouts()).isEqualTo(original.layouts());
        assertSameMachineState(
            written.machineState().orElseThrow(), original.machineState().orElseThrow());
        assertSamePages(written, original);
      }
    }
  }

  @Test
  void headersAreQemusOwnToTheByte() throws IOException {
    Path copy = folder.resolve("copy.mr");
    try (MappedRamFile original = open(GoldenSnapshot.of("pc").file(), 0)) {
      copy(original, copy, 0);
      for (int i = 0; i < original.layouts().size(); i++) {
        BlockLayout layout = original.layouts().get(i);
        long start = i == 0 ? 0 : end(original, i - 1);
        int length =
            (int)
                (layout.bitmapOffsetBytes()
                    - start
                    + (original.blocks().get(i).pageCount() + 63) / 64 * 8);
        assertThat(read(copy, start, length)).isEqualTo(original.file().readBytesAt(start, length));
      }
    }
  }

  @Test
  void zeroPagesAreHoles() throws Exception {
    Path copy = folder.resolve("copy.mr");
    try (MappedRamFile original = open(GoldenSnapshot.of("pc").file(), 0)) {
      copy(original, copy, 0);
    }
    Process stat = new ProcessBuilder("stat", "-c", "%b", copy.toString()).start();
    long allocatedBytes = 512 * Long.parseLong(stat.inputReader().readLine());

    // 208 pages are stored; the rest is headers, device state, and the file system's own.
    assertThat(allocatedBytes).isBetween(208L * 4096, 2L << 20);
  }

  @ParameterizedTest
  @ValueSource(longs = {0, 1, 12345, 1 << 20})
  void offsetsAreAbsoluteAndPagesAligned(long offsetBytes) throws IOException {
    Path path = folder.resolve("new.mr");
    byte[] before = new byte[3 << 20];
    Arrays.fill(before, (byte) 0xaa);
    Files.write(path, before);
    List<MappedRamWriter.Block> blocks =
        List.of(
            new MappedRamWriter.Block("a", 4096),
            new MappedRamWriter.Block("b".repeat(255), 65 * 4096));
    try (NativeFile out = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE);
        MemoryMapping memory = MemoryMapping.anonymous(65 * 4096)) {
      memory.asSegment().fill((byte) 0x77);
      MappedRamWriter writer = MappedRamWriter.create(out, offsetBytes, machineState(), blocks);
      writer.writePages(1, 63, 2, memory.address());
      assertThat(writer.storedPages(0)).isZero();
      assertThat(writer.storedPages(1)).isEqualTo(2);
      assertThat(writer.finish()).isEqualTo(Files.size(path));
    }

    assertThat(read(path, 0, (int) offsetBytes))
        .containsOnly(offsetBytes == 0 ? new byte[0] : new byte[] {(byte) 0xaa});
    try (MappedRamFile written = open(path, offsetBytes)) {
      assertThat(written.layouts()).allMatch(layout -> layout.pagesOffsetBytes() % (1 << 20) == 0);
      assertThat(written.layouts().getFirst().bitmapOffsetBytes())
          .isEqualTo(offsetBytes + 0x63 + 1 + 1 + 8 + 28);
      assertThat(written.blocks().getFirst().storedPages()).isZero();
      SnapshotBlock block = written.blocks().getLast();
      assertThat(block.runLength(0, 100)).isEqualTo(63);
      assertThat(block.runLength(63, 100)).isEqualTo(2);
      assertThat(read(path, block.pagesOffsetBytes() + 62 * 4096, 4096)).containsOnly(0);
      assertThat(read(path, block.pagesOffsetBytes() + 63 * 4096, 2 * 4096)).containsOnly(0x77);
      assertThat(
              DeviceState.of(
                      written.machineState().orElseThrow(), written.deviceSectionsOffsetBytes())
                  .runState())
          .contains("paused");
    }
  }

  @Test
  void zeroPagesAreFoundAndMayReplaceOthers() throws IOException {
    Path path = folder.resolve("new.mr");
    int pages = 200;
    try (NativeFile out = NativeFile.open(path, NativeFile.Mode.WRITE_CREATE_TRUNCATE);
        MemoryMapping memory = MemoryMapping.anonymous(pages * 4096L)) {
      MappedRamWriter writer =
          MappedRamWriter.create(
              out, 0, machineState(), List.of(new MappedRamWriter.Block("m0", pages * 4096L)));
      for (int page : new int[] {0, 3, 4, 63, 64, 65, 127, 128, 199}) {
        // Only the very last byte of the page.
        memory.asSegment().set(ValueLayout.JAVA_BYTE, page * 4096L + 4095, (byte) page);
      }
      memory.asSegment().set(ValueLayout.JAVA_BYTE, 0, (byte) 1);
      writer.writeNonZeroPages(0, 0, 100, memory.address());
      writer.writeNonZeroPages(0, 100, 100, memory.address() + 100 * 4096);
      assertThat(writer.storedPages(0)).isEqualTo(9);
      memory.asSegment().asSlice(3 * 4096, 2 * 4096).fill((byte) 0);
      memory.asSegment().asSlice(64 * 4096, 64 * 4096).fill((byte) 0);
      writer.writeNonZeroPages(0, 0, pages, memory.address());
      writer.finish();
    }

    try (MappedRamFile written = open(path, 0)) {
      SnapshotBlock block = written.blocks().getFirst();
      for (int page = 0; page < pages; page++) {
        assertThat(block.isStored(page))
            .as("page %d", page)
            .isEqualTo(List.of(0, 63, 128, 199).contains(page));
      }
      assertThat(read(path, block.pagesOffsetBytes() + 64 * 4096 - 1, 1)).containsExactly(63);
    }
  }

  @Test
  void anUnfinishedFileIsRefused() throws IOException {
    Path path = folder.resolve("new.mr");
    try (NativeFile out = NativeFile.open(path, NativeFile.Mode.WRITE_CREATE_TRUNCATE);
        MemoryMapping memory = MemoryMapping.anonymous(4096)) {
      MappedRamWriter writer =
          MappedRamWriter.create(
              out, 0, machineState(), List.of(new MappedRamWriter.Block("m0", 16 * 4096)));
      writer.writePages(0, 15, 1, memory.address());
    }

    assertThatThrownBy(() -> open(path, 0))
        .isInstanceOf(StreamFormatException.class)
        .hasMessage(
            "truncated: end of a RAM section needs 8 bytes, but only 0 are left at byte offset %d (0x%x)"
                .formatted((1 << 20) + 16 * 4096, (1 << 20) + 16 * 4096));
  }

  private static final List<MappedRamWriter.Block> TWO_BLOCKS =
      List.of(
          new MappedRamWriter.Block("a", 100 * 4096), new MappedRamWriter.Block("b", 70 * 4096));

  /** Pages hold the number of their generation in each byte; these are stored. */
  private Path earlier(MemoryMapping memory) throws IOException {
    Path path = folder.resolve("earlier.mr");
    memory.asSegment().fill((byte) 1);
    try (NativeFile out = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE)) {
      MappedRamWriter writer = MappedRamWriter.create(out, 0, machineState(), TWO_BLOCKS);
      writer.writePages(0, 0, 50, memory.address());
      writer.writePages(0, 63, 2, memory.address());
      writer.writePages(1, 69, 1, memory.address());
      writer.finish();
    }
    return path;
  }

  private static void change(MappedRamWriter writer, MemoryMapping memory) throws IOException {
    memory.asSegment().fill((byte) 2);
    writer.writePages(0, 10, 2, memory.address());
    writer.writeNonZeroPages(0, 99, 1, memory.address());
    writer.zeroPages(0, 64, 1);
    memory.asSegment().fill((byte) 0);
    writer.writeNonZeroPages(0, 0, 3, memory.address());
    writer.zeroPages(1, 0, 2);
  }

  private void assertChanged(Path path) throws IOException {
    try (MappedRamFile written = open(path, 0)) {
      for (int page = 0; page < 100; page++) {
        int expected =
            page == 10 || page == 11 || page == 99
                ? 2
                : (page >= 3 && page < 50) || page == 63 ? 1 : 0;
        SnapshotBlock block = written.blocks().getFirst();
        assertThat(block.isStored(page)).as("page %d", page).isEqualTo(expected != 0);
        if (expected != 0) {
          assertThat(read(path, block.pagesOffsetBytes() + page * 4096L, 4096))
              .as("page %d", page)
              .containsOnly(expected);
        }
      }
      SnapshotBlock last = written.blocks().getLast();
      assertThat(last.storedPages()).isEqualTo(1);
      assertThat(read(path, last.pagesOffsetBytes() + 69 * 4096, 4096)).containsOnly(1);
      assertThat(SnapshotLineage.of(written.machineState().orElseThrow()))
          .contains(SnapshotLineage.from("/there"));
    }
  }

  @Test
  void aCopyIsChangedInPlace() throws IOException {
    try (MemoryMapping memory = MemoryMapping.anonymous(50 * 4096)) {
      Path path = Files.copy(earlier(memory), folder.resolve("new.mr"));
      try (NativeFile out = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE)) {
        MappedRamWriter writer =
            MappedRamWriter.onCopy(
                out, SnapshotLineage.from("/there").in(machineState()), TWO_BLOCKS);
        assertThatThrownBy(() -> open(path, 0)).hasMessageContaining("truncated");
        change(writer, memory);
        assertThat(writer.inheritNext(1 << 20)).isZero();
        assertThat(writer.finish()).isEqualTo(Files.size(path));
      }
      assertChanged(path);
    }
  }

  @Test
  void whatHasNotChangedIsCopied() throws IOException {
    Path path = folder.resolve("new.mr");
    try (MemoryMapping memory = MemoryMapping.anonymous(50 * 4096);
        NativeFile from = NativeFile.open(earlier(memory), NativeFile.Mode.READ);
        NativeFile out = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE)) {
      MappedRamWriter writer =
          MappedRamWriter.create(
              out, 0, SnapshotLineage.from("/there").in(machineState()), TWO_BLOCKS);
      writer.inherit(from);
      change(writer, memory);
      long copied = 0;
      for (long step = writer.inheritNext(8 * 4096);
          step > 0;
          step = writer.inheritNext(8 * 4096)) {
        copied += step;
      }
      assertThat(copied).isEqualTo((50 - 3 - 2 + 1 + 1) * 4096L);
      writer.finish();
      assertChanged(path);
    }
  }

  @Test
  void aFileOfOtherBlocksIsNoCopy() throws IOException {
    try (MemoryMapping memory = MemoryMapping.anonymous(50 * 4096);
        NativeFile out = NativeFile.open(earlier(memory), NativeFile.Mode.READ_WRITE_CREATE)) {
      assertThatThrownBy(() -> MappedRamWriter.onCopy(out, machineState(), TWO_BLOCKS.reversed()))
          .isInstanceOf(IOException.class)
          .hasMessageContaining("no snapshot of the same machine and blocks");
    }
  }

  @Test
  void misuseIsABug() throws IOException {
    Path path = folder.resolve("new.mr");
    try (NativeFile out = NativeFile.open(path, NativeFile.Mode.WRITE_CREATE_TRUNCATE)) {
      MappedRamWriter.Block block = new MappedRamWriter.Block("m0", 4096);
      assertThatThrownBy(() -> new MappedRamWriter.Block("", 4096))
          .isInstanceOf(IllegalArgumentException.class);
      assertThatThrownBy(() -> new MappedRamWriter.Block("ä", 4096))
          .isInstanceOf(IllegalArgumentException.class);
      assertThatThrownBy(() -> new MappedRamWriter.Block("x".repeat(256), 4096))
          .isInstanceOf(IllegalArgumentException.class);
      assertThatThrownBy(() -> new MappedRamWriter.Block("m0", 4095))
          .isInstanceOf(IllegalArgumentException.class);
      assertThatThrownBy(() -> MappedRamWriter.create(out, 0, machineState(), List.of()))
          .isInstanceOf(IllegalArgumentException.class);
      assertThatThrownBy(
              () -> MappedRamWriter.create(out, 0, machineState(), List.of(block, block)))
          .isInstanceOf(IllegalArgumentException.class);

      MappedRamWriter writer = MappedRamWriter.create(out, 0, machineState(), List.of(block));
      assertThatThrownBy(() -> writer.writePages(1, 0, 1, 0))
          .isInstanceOf(IndexOutOfBoundsException.class);
      assertThatThrownBy(() -> writer.writePages(0, 0, 2, 0))
          .isInstanceOf(IndexOutOfBoundsException.class);
      assertThatThrownBy(() -> writer.writePages(0, -1, 1, 0))
          .isInstanceOf(IndexOutOfBoundsException.class);
      assertThatThrownBy(() -> writer.writeNonZeroPages(0, 1, 1, 0))
          .isInstanceOf(IndexOutOfBoundsException.class);
      writer.finish();
      assertThatThrownBy(() -> writer.writePages(0, 0, 1, 0))
          .isInstanceOf(IllegalStateException.class);
      assertThatThrownBy(writer::finish).isInstanceOf(IllegalStateException.class);
    }
  }

  /** Writes every stored page of a snapshot, straight from its mapped file. */
  static long copy(MappedRamFile original, Path target, long offsetBytes) throws IOException {
    List<MappedRamWriter.Block> blocks =
        original.blocks().stream()
            .map(block -> new MappedRamWriter.Block(block.name(), block.usedLengthBytes()))
            .toList();
    try (NativeFile out = NativeFile.open(target, NativeFile.Mode.READ_WRITE_CREATE)) {
      MappedRamWriter writer =
          MappedRamWriter.create(out, offsetBytes, original.machineState().orElseThrow(), blocks);
      for (int i = 0; i < blocks.size(); i++) {
        SnapshotBlock block = original.blocks().get(i);
        try (MemoryMapping pages =
            original.file().map(block.pagesOffsetBytes(), block.usedLengthBytes())) {
          for (long page = 0; page < block.pageCount(); ) {
            long run = block.runLength(page, Long.MAX_VALUE >>> 1);
            if (block.isStored(page)) {
              writer.writePages(i, page, run, pages.address() + page * 4096);
            }
            page += run;
          }
        }
      }
      return writer.finish();
    }
  }

  private static void assertSameMachineState(MachineState actual, MachineState expected) {
    assertThat(actual.configuration()).isEqualTo(expected.configuration());
    assertThat(actual.machineType()).isEqualTo(expected.machineType());
    assertThat(actual.ramSectionId()).isEqualTo(expected.ramSectionId());
    assertThat(actual.commands()).isEqualTo(expected.commands());
    assertThat(actual.deviceSections()).isEqualTo(expected.deviceSections());
    assertThat(actual.vmDescriptionJson().isPresent())
        .isEqualTo(expected.vmDescriptionJson().isPresent());
    assertThat(actual.vmDescriptionJson().orElse(new byte[0]))
        .isEqualTo(expected.vmDescriptionJson().orElse(new byte[0]));
  }

  private static void assertSamePages(Snapshot actual, Snapshot expected) throws IOException {
    for (int i = 0; i < expected.blocks().size(); i++) {
      SnapshotBlock left = actual.blocks().get(i);
      SnapshotBlock right = expected.blocks().get(i);
      assertThat(left.name()).isEqualTo(right.name());
      assertThat(left.usedLengthBytes()).isEqualTo(right.usedLengthBytes());
      for (long page = 0; page < right.pageCount(); ) {
        long run = right.runLength(page, 4096);
        assertThat(left.isStored(page)).isEqualTo(right.isStored(page));
        assertThat(left.runLength(page, 4096)).isEqualTo(run);
        if (right.isStored(page)) {
          assertThat(
                  actual
                      .file()
                      .readBytesAt(left.pagesOffsetBytes() + page * 4096, (int) run * 4096))
              .isEqualTo(
                  expected
                      .file()
                      .readBytesAt(right.pagesOffsetBytes() + page * 4096, (int) run * 4096));
        }
        page += run;
      }
    }
  }

  private static long end(Snapshot snapshot, int index) {
    SnapshotBlock block = snapshot.blocks().get(index);
    return block.pagesOffsetBytes() + block.usedLengthBytes();
  }

  private static byte[] read(Path path, long offsetBytes, int length) throws IOException {
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.READ)) {
      return file.readBytesAt(offsetBytes, length);
    }
  }

  private static MachineState machineState() throws IOException {
    return SyntheticSnapshot.parse(SyntheticSnapshot.usual().build()).machineState();
  }

  private static MappedRamFile open(Path path, long offsetBytes) throws IOException {
    return (MappedRamFile)
        SnapshotOpener.open(NativeFile.open(path, NativeFile.Mode.READ), offsetBytes);
  }
}
