package dev.postcopyd.snapshot;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SnapshotIdentityTest {
  @TempDir private Path folder;

  private static SnapshotIdentity of(Path path) throws IOException {
    try (Snapshot snapshot = SnapshotOpener.open(NativeFile.open(path, NativeFile.Mode.READ), 0)) {
      return SnapshotIdentity.of(snapshot);
    }
  }

  private SnapshotIdentity of(byte[] file) throws IOException {
    Path path = folder.resolve("snapshot");
    Files.write(path, file);
    return of(path);
  }

  @Test
  void aSnapshotIsTheSameWhereverItLies() throws IOException {
    Path copy = folder.resolve("copy");
    Files.copy(GoldenSnapshot.of("pc").file(), copy);
    SnapshotIdentity identity = of(GoldenSnapshot.of("pc").file());
    assertThat(of(copy)).isEqualTo(identity);
    assertThat(identity.differenceOf(of(copy))).isEmpty();
    assertThat(identity.machineType()).isEqualTo("pc-i440fx-10.0");
    assertThat(identity.blocks())
        .extracting(SnapshotIdentity.Block::name)
        .containsExactlyElementsOf(GoldenSnapshot.of("pc").ramBlocks().keySet());
  }

  @Test
  void anotherMachineIsNamed() throws IOException {
    assertThat(of(GoldenSnapshot.of("pc").file()).differenceOf(of(GoldenSnapshot.of("q35").file())))
        .contains("machine type 'pc-q35-10.0', not 'pc-i440fx-10.0'");
    SnapshotIdentity usual = of(SyntheticSnapshot.usual().build());
    assertThat(
            usual.differenceOf(
                of(new SyntheticSnapshot().block("pc.ram", 70 * 4096, 0x41L, 0x21L).build())))
        .contains("1 RAM blocks, not 2");
    assertThat(
            usual.differenceOf(
                of(
                    new SyntheticSnapshot()
                        .block("pc.ram", 71 * 4096, 0x41L, 0x21L)
                        .block("pc.bios", 2 * 4096, 0x2L)
                        .build())))
        .contains(
            "RAM block 0 is 'pc.ram' of 290816 bytes in pages of 4K, not 'pc.ram' of 286720 bytes"
                + " in pages of 4K");
  }

  @Test
  void anotherStateOfTheMachineIsToldByItsBitmapsAndDevices() throws IOException {
    byte[] file = SyntheticSnapshot.usual().build();
    SnapshotIdentity usual = of(file);
    SnapshotIdentity otherPages =
        of(
            new SyntheticSnapshot()
                .block("pc.ram", 70 * 4096, 0x43L, 0x21L)
                .block("pc.bios", 2 * 4096, 0x2L)
                .build());
    assertThat(usual.differenceOf(otherPages).orElseThrow())
        .startsWith("another state of this machine: fingerprint ");

    try (Snapshot snapshot = SnapshotOpener.open(memoryOf(file), 0)) {
      int devicesAt = (int) ((MappedRamFile) snapshot).deviceSectionsOffsetBytes();
      // The payload of the timer.
      SnapshotIdentity otherDevices = of(SyntheticSnapshot.damaged(file, devicesAt + 20, "99"));
      assertThat(usual.differenceOf(otherDevices)).isPresent();
    }
  }

  private static NativeFile memoryOf(byte[] contents) throws IOException {
    NativeFile file = NativeFile.memfd("snapshot");
    file.writeBytesAt(contents, 0);
    return file;
  }

  @Test
  void ofRawMemoryTheTimeOfTheLastWriteCounts() throws IOException {
    Path path = folder.resolve("memory");
    Files.write(path, new byte[8 * 4096]);
    Files.setLastModifiedTime(path, FileTime.fromMillis(1_000_000));
    SnapshotIdentity before = of(path);
    assertThat(of(path)).isEqualTo(before);
    Files.setLastModifiedTime(path, FileTime.fromMillis(2_000_000));
    assertThat(before.differenceOf(of(path))).isPresent();
  }
}
