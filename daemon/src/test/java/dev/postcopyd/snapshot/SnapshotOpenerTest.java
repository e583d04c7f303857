package dev.postcopyd.snapshot;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SnapshotOpenerTest {
  @TempDir private Path folder;

  @Test
  void recognisesAMappedRamFile() throws IOException {
    try (Snapshot snapshot = SnapshotOpener.open(file(SyntheticSnapshot.usual().build()), 0)) {
      assertThat(snapshot).isInstanceOf(MappedRamFile.class);
      assertThat(snapshot.format().label()).isEqualTo("mapped-ram");
      assertThat(snapshot.file().readBytesAt(snapshot.blocks().getFirst().pagesOffsetBytes(), 2))
          .containsOnly(SyntheticSnapshot.contentOf(0, 0));
    }
  }

  @Test
  void recognisesAMappedRamFileAtAnOffset() throws IOException {
    try (Snapshot snapshot =
        SnapshotOpener.open(file(SyntheticSnapshot.usual().buildAt(12345)), 12345)) {
      assertThat(((MappedRamFile) snapshot).streamOffsetBytes()).isEqualTo(12345);
    }
  }

  @Test
  void recognisesRawMemory() throws IOException {
    byte[] memory = new byte[67 * 4096];
    Arrays.fill(memory, (byte) 0x5a);
    try (Snapshot snapshot = SnapshotOpener.open(file(memory), 0)) {
      assertThat(snapshot.format()).isEqualTo(SnapshotFormat.RAW_MEMORY);
      assertThat(snapshot.machineState()).isEmpty();
      SnapshotBlock block = snapshot.blocks().getFirst();
      assertThat(snapshot.blocks()).hasSize(1);
      assertThat(block.name()).isEqualTo("ram");
      assertThat(block.usedLengthBytes()).isEqualTo(memory.length);
      assertThat(block.pagesOffsetBytes()).isZero();
      assertThat(block.storedPages()).isEqualTo(67);
      assertThat(block.runLength(0, 1000)).isEqualTo(67);
    }
  }

  @Test
  void closingTheSnapshotClosesTheFile() throws IOException {
    NativeFile file = file(SyntheticSnapshot.usual().build());
    SnapshotOpener.open(file, 0).close();

    assertThatThrownBy(file::fd).isInstanceOf(IllegalStateException.class);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          1f8b0800             | a gzip file
          fd377a585a00         | an xz file
          28b52ffd             | a zstd file
          425a6839             | a bzip2 file
          894c5a4f000d0a1a0a   | an lzop file
          04224d18             | an lz4 file
          504b0304             | a zip file
          7f454c46020101       | an ELF file (a core dump, or a program)
          514649fb00000003     | a qcow2 disk image
          51454400             | a qed disk image
          4b444d56             | a VMDK disk image
          7668647866696c65     | a VHDX disk image
          4c554b53babe0002     | a LUKS container
          4b44554d50202020     | a kdump file
          4449534b44554d50     | a diskdump file
          6d616b6564756d7066696c65 | a flattened kdump file
          5041474544553634     | a Windows memory dump
          5041474544554d50     | a Windows memory dump
          """)
  void otherFormatsAreRefusedByName(String magic, String label) throws IOException {
    byte[] content = new byte[8192];
    byte[] head = HexFormat.of().parseHex(magic);
    System.arraycopy(head, 0, content, 0, head.length);

    assertRefused(
        file(content), 0, "not a snapshot: the file is " + label + " at byte offset 0 (0x0)");
  }

  @Test
  void anythingElseIsNotASnapshot() throws IOException {
    assertRefused(
        file("Hello, I am a letter to my aunt.\n".getBytes(StandardCharsets.US_ASCII)),
        0,
        "not a snapshot: the file begins with no known magic (48 65 6c 6c 6f 2c 20 49),"
            + " and its 33 bytes are no whole pages of memory at byte offset 0 (0x0)");
    assertRefused(
        file(new byte[] {0x51}),
        0,
        "not a snapshot: the file begins with no known magic (51), and its 1 bytes are no whole pages of memory"
            + " at byte offset 0 (0x0)");
    assertRefused(file(new byte[0]), 0, "not a snapshot: the file is empty at byte offset 0 (0x0)");
  }

  @Test
  void aWrongOffsetIsNotTakenForRawMemory() throws IOException {
    byte[] content = SyntheticSnapshot.usual().buildAt(4096);

    assertRefused(
        file(content),
        8192,
        "not a snapshot: no migration stream begins (10 10 10 10 10 10 10 10) at byte offset 8192 (0x2000)");
    assertRefused(
        file(new byte[8192]),
        8192,
        "not a snapshot: the file has only 8192 bytes, and the snapshot is to begin at byte offset 8192 (0x2000)");
    assertRefused(
        file(new byte[8192]),
        Long.MAX_VALUE,
        "not a snapshot: the file has only 8192 bytes, and the snapshot is to begin"
            + " at byte offset 9223372036854775807 (0x7fffffffffffffff)");
  }

  @Test
  void aDamagedFileIsClosed() throws IOException {
    assertRefused(
        file(SyntheticSnapshot.damaged(SyntheticSnapshot.usual().build(), 4, "00000002")),
        0,
        "stream version 2 is not supported (only 3) at byte offset 4 (0x4)");
  }

  @Test
  void aDirectoryIsRefused() throws IOException {
    NativeFile directory = NativeFile.open(folder, NativeFile.Mode.READ);

    assertThatThrownBy(() -> SnapshotOpener.open(directory, 0))
        .isInstanceOf(IOException.class)
        .hasMessage("not a snapshot: " + folder + " is a directory");
    assertClosed(directory);
  }

  @Test
  void aDeviceIsRefused() throws IOException {
    NativeFile device = NativeFile.open("/dev/zero", NativeFile.Mode.READ);

    assertThatThrownBy(() -> SnapshotOpener.open(device, 0))
        .isInstanceOf(IOException.class)
        .hasMessage("not a snapshot: /dev/zero is not a regular file");
    assertClosed(device);
  }

  @Test
  void aFifoIsRefusedWithoutWaitingForItsWriter() throws Exception {
    Path path = folder.resolve("fifo");
    assertThat(new ProcessBuilder("mkfifo", path.toString()).start().waitFor()).isZero();
    NativeFile fifo = NativeFile.open(path, NativeFile.Mode.READ);

    assertThatThrownBy(() -> SnapshotOpener.open(fifo, 0))
        .isInstanceOf(IOException.class)
        .hasMessage("not a snapshot: " + path + " is not a regular file");
    assertClosed(fifo);
  }

  @Test
  void aFileThatCannotBeReadIsRefused() throws IOException {
    NativeFile file = NativeFile.open("/proc/self/mem", NativeFile.Mode.READ);

    assertThatThrownBy(() -> SnapshotOpener.open(file, 0))
        .isInstanceOf(ErrnoException.class)
        .hasMessage("pread of 92 bytes at offset 0 of /proc/self/mem: EIO (Input/output error)");
    assertClosed(file);
  }

  @Test
  void aFileThatMayNotBeReadIsRefused() throws IOException {
    Path path = folder.resolve("write-only");
    NativeFile file = NativeFile.open(path, NativeFile.Mode.WRITE_CREATE_TRUNCATE);
    file.writeBytesAt(SyntheticSnapshot.usual().build(), 0);

    assertThatThrownBy(() -> SnapshotOpener.open(file, 0))
        .isInstanceOf(ErrnoException.class)
        .hasMessage("pread of 92 bytes at offset 0 of " + path + ": EBADF (Bad file descriptor)");
    assertClosed(file);
  }

  @Test
  void aFileThatIsNotThereIsRefused() {
    Path path = folder.resolve("vanished.mr");

    assertThatThrownBy(() -> NativeFile.open(path, NativeFile.Mode.READ))
        .isInstanceOf(ErrnoException.class)
        .hasMessage("open of " + path + ": ENOENT (No such file or directory)");
  }

  @Test
  void aFileThatVanishesWhileItIsOpenIsStillRead() throws IOException {
    Path path = folder.resolve("vanishing.mr");
    Files.write(path, SyntheticSnapshot.usual().build());
    NativeFile file = NativeFile.open(path, NativeFile.Mode.READ);
    Files.delete(path);

    try (Snapshot snapshot = SnapshotOpener.open(file, 0)) {
      assertThat(snapshot.blocks()).hasSize(2);
    }
  }

  @Test
  void rawMemoryOfImpossibleSizeIsRefusedBeforeAnythingIsAllocated() throws IOException {
    Path path = folder.resolve("huge");
    try (RandomAccessFile sparse = new RandomAccessFile(path.toFile(), "rw")) {
      try {
        sparse.setLength((1L << 46) + 4096);
      } catch (IOException e) {
        sparse.setLength(0); // This file system has no files of that size.
      }
    }
    boolean possible = Files.size(path) > 0;

    assertThatThrownBy(() -> SnapshotOpener.open(NativeFile.open(path, NativeFile.Mode.READ), 0))
        .hasMessage(
            possible
                ? "RAM size of 70368744181760 bytes is not possible (at most 70368744177664) at byte offset 0 (0x0)"
                : "not a snapshot: the file is empty at byte offset 0 (0x0)");
  }

  @Test
  void whatDoesNotFitIntoTheHeapIsRefused() {
    long limit = Runtime.getRuntime().maxMemory() / 2;

    assertThatThrownBy(() -> SnapshotLimits.requireHeap(limit + 1, "the page bitmap"))
        .isInstanceOf(IOException.class)
        .hasMessage(
            "not enough memory: the page bitmap needs %d bytes, and of the Java heap (-Xmx) %d bytes may be used for it"
                .formatted(limit + 1, limit));
  }

  private NativeFile file(byte[] content) throws IOException {
    Path path = Files.createTempFile(folder, "snapshot", ".mr");
    Files.write(path, content);
    return NativeFile.open(path, NativeFile.Mode.READ);
  }

  private static void assertRefused(NativeFile file, long offsetBytes, String message) {
    assertThatThrownBy(() -> SnapshotOpener.open(file, offsetBytes))
        .isInstanceOf(StreamFormatException.class)
        .hasMessage(message);
    assertClosed(file);
  }

  private static void assertClosed(NativeFile file) {
    assertThatThrownBy(file::fd).isInstanceOf(IllegalStateException.class);
  }
}
