package dev.postcopyd.snapshot;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Headers as libvirt 11.3 wrote them; behind them the small stream of {@link SyntheticSnapshot}.
 */
class LibvirtSaveImageTest {
  /** From a real image of format sparse: data of 67226 bytes, saved while running. */
  private static final byte[] RECORDED_HEADER =
      Arrays.copyOf(
          HexFormat.of()
              .parseHex(
                  "4c69627669727451656d756453617665"
                      + "02000000"
                      + "9a060100"
                      + "01000000"
                      + "06000000"
                      + "ae050000"),
          92);

  /** Where that image's stream began. */
  private static final int RECORDED_STREAM_OFFSET = 0x106f6;

  @TempDir private Path folder;

  @Test
  void theStreamIsFoundByTheHeader() throws IOException {
    try (Snapshot snapshot = open(image(RECORDED_HEADER))) {
      assertThat(snapshot.format()).isEqualTo(SnapshotFormat.LIBVIRT_SPARSE);
      assertThat(snapshot.format().label()).isEqualTo("libvirt-sparse");
      LibvirtSaveImage image = (LibvirtSaveImage) snapshot;
      assertThat(image.wasRunning()).isTrue();
      assertThat(image.mappedRam().streamOffsetBytes()).isEqualTo(RECORDED_STREAM_OFFSET);
      assertThat(snapshot.blocks())
          .extracting(SnapshotBlock::name)
          .containsExactly("pc.ram", "pc.bios");
      assertThat(snapshot.machineState().orElseThrow().machineType())
          .contains(SyntheticSnapshot.MACHINE_TYPE);
      assertThat(snapshot.file().readBytesAt(snapshot.blocks().getFirst().pagesOffsetBytes(), 1))
          .containsExactly(SyntheticSnapshot.contentOf(0, 0));
    }
  }

  @Test
  void anImageOfAHostOfOtherByteOrderIsReadToo() throws IOException {
    byte[] header = RECORDED_HEADER.clone();
    ByteBuffer little = ByteBuffer.wrap(RECORDED_HEADER).order(ByteOrder.LITTLE_ENDIAN);
    ByteBuffer big = ByteBuffer.wrap(header);
    for (int at = 0x10; at < 0x24; at += 4) {
      big.putInt(at, little.getInt(at));
    }
    big.putInt(0x18, 0);

    try (Snapshot snapshot = open(image(header))) {
      assertThat(((LibvirtSaveImage) snapshot).mappedRam().streamOffsetBytes())
          .isEqualTo(RECORDED_STREAM_OFFSET);
      assertThat(((LibvirtSaveImage) snapshot).wasRunning()).isFalse();
    }
  }

  @Test
  void aRealImageIsReadAsLibvirtMadeIt() throws IOException {
    GoldenSnapshot golden = GoldenSnapshot.ofLibvirt("sparse");
    try (Snapshot snapshot =
        SnapshotOpener.open(NativeFile.open(golden.file(), NativeFile.Mode.READ), 0)) {
      assertThat(snapshot.format()).isEqualTo(SnapshotFormat.LIBVIRT_SPARSE);
      LibvirtSaveImage image = (LibvirtSaveImage) snapshot;
      ByteBuffer header =
          ByteBuffer.wrap(snapshot.file().readBytesAt(0, 92)).order(ByteOrder.LITTLE_ENDIAN);
      assertThat(image.mappedRam().streamOffsetBytes()).isEqualTo(92 + header.getInt(0x14));
      assertThat(image.wasRunning()).isTrue();
      assertThat(snapshot.blocks())
          .extracting(SnapshotBlock::name)
          .contains("pc.ram", "pc.bios", "pc.rom", "/rom@etc/acpi/tables");
      MachineState state = snapshot.machineState().orElseThrow();
      assertThat(state.machineType()).contains(golden.recipe("machine"));
      assertThat(DeviceState.of(state, 0).runState())
          .as("libvirt stops a guest before it saves it")
          .contains("paused");
      SnapshotBlock ram = snapshot.blocks().getFirst();
      long firstPage = Long.parseLong(golden.recipe("text.address")) / 4096;
      int pages = Integer.parseInt(golden.recipe("text.pages"));
      assertThat(ram.runLength(firstPage, 100_000)).isEqualTo(pages);
      for (int page = 0; page < pages; page++) {
        long at = ram.pagesOffsetBytes() + (firstPage + page) * 4096;
        assertThat(new String(snapshot.file().readBytesAt(at, 64), StandardCharsets.US_ASCII))
            .isEqualTo("%-63s\n".formatted("golden page " + page));
      }
    }
  }

  @Test
  void theDomainsXmlAndLibvirtsCookieAreFoundWhateverTheFormat() throws IOException {
    for (String format : new String[] {"sparse", "refused-raw"}) {
      try (NativeFile file =
          NativeFile.open(GoldenSnapshot.ofLibvirt(format).file(), NativeFile.Mode.READ)) {
        LibvirtDescription description = LibvirtDescription.read(file);
        assertThat(description.isSparse()).isEqualTo(format.equals("sparse"));
        assertThat(description.format()).isEqualTo(format.replace("refused-", ""));
        assertThat(description.wasRunning()).isTrue();
        assertThat(description.xml()).startsWith("<domain type='qemu'").endsWith("</domain>\n");
        assertThat(description.xml()).contains("<name>golden</name>");
        assertThat(description.cookie().orElseThrow()).startsWith("<cookie>").contains("<cpu ");
      }
    }
  }

  @Test
  void adescriptionThatDoesNotHoldTogetherIsRefused() throws IOException {
    assertUndescribed(
        "the domain's XML in the libvirt save image does not end at byte offset 92 (0x5c)",
        4,
        0,
        "3c61");
    assertUndescribed(
        "the cookie of the libvirt save image begins at 3, and the domain's XML ends at 2 at byte offset 32 (0x20)",
        8,
        3,
        "3c00");
    assertUndescribed(
        "the cookie of the libvirt save image begins at 4294967295, and the domain's XML ends at 2 at byte offset 32 (0x20)",
        8,
        -1,
        "3c00");
    assertUndescribed(
        "the cookie in the libvirt save image does not end at byte offset 94 (0x5e)",
        4,
        2,
        "3c003c3c");
    assertUndescribed(
        "the XML in the libvirt save image is not UTF-8 at byte offset 92 (0x5c)", 4, 0, "ff00");
  }

  private static void assertUndescribed(String message, int length, int cookie, String hex) {
    byte[] data = new byte[length];
    Arrays.fill(data, (byte) '<');
    byte[] begin = HexFormat.of().parseHex(hex);
    System.arraycopy(begin, 0, data, 0, begin.length);
    assertThatThrownBy(
            () -> LibvirtDescription.of(new LibvirtHeader(length, true, 6, cookie), data))
        .isInstanceOf(StreamFormatException.class)
        .hasMessage(message);
  }

  @Test
  void aRealImageOfAnotherFormatIsRefused() throws IOException {
    assertRefused(
        Files.readAllBytes(GoldenSnapshot.ofLibvirt("refused-raw").file()),
        "libvirt save image of format 'raw' cannot be loaded lazily, only 'sparse' can: restore it"
            + " and save it again with virsh save --image-format sparse at byte offset 28 (0x1c)");
  }

  @ParameterizedTest
  @CsvSource({"0, raw", "1, gzip", "2, bzip2", "3, xz", "4, lzop", "5, zstd"})
  void otherFormatsAreRefusedByName(int format, String name) throws IOException {
    assertRefused(
        SyntheticSnapshot.damaged(image(RECORDED_HEADER), 0x1c, "%02x000000".formatted(format)),
        "libvirt save image of format '"
            + name
            + "' cannot be loaded lazily, only 'sparse' can: restore it and save it again"
            + " with virsh save --image-format sparse at byte offset 28 (0x1c)");
  }

  @Test
  void damageIsNamed() throws IOException {
    byte[] image = image(RECORDED_HEADER);
    assertRefused(
        SyntheticSnapshot.damaged(image, 0x1c, "07000000"),
        "libvirt save image has the unknown format 7 at byte offset 28 (0x1c)");
    assertRefused(
        SyntheticSnapshot.damaged(image, 0x10, "03000000"),
        "libvirt save image version 3 is not supported (only 2) at byte offset 16 (0x10)");
    assertRefused(
        SyntheticSnapshot.damaged(image, 0x14, "ffffffff"),
        "the data of the libvirt save image (4294967295 bytes) end beyond the end of the file (%d bytes) at byte offset 20 (0x14)"
            .formatted(image.length));
    assertRefused(
        SyntheticSnapshot.damaged(image, 0x14, "9b060100"),
        "stream magic is 0x45564d00 instead of 0x5145564d at byte offset 67319 (0x106f7)");
    assertRefused(
        SyntheticSnapshot.damaged(image, 12, "50617274"),
        "libvirt save image is incomplete (LibvirtQemudPart): the save did not finish at byte offset 0 (0x0)");
    assertRefused(
        Arrays.copyOf(image, 91),
        "truncated: the header of a libvirt save image needs 92 bytes at byte offset 91 (0x5b)");
    assertRefused(
        Arrays.copyOf(image, RECORDED_STREAM_OFFSET),
        "truncated: stream magic needs 4 bytes, but only 0 are left at byte offset 67318 (0x106f6)");
  }

  private static byte[] image(byte[] header) {
    byte[] image = SyntheticSnapshot.usual().buildAt(RECORDED_STREAM_OFFSET);
    Arrays.fill(image, 0, RECORDED_STREAM_OFFSET, (byte) 0);
    System.arraycopy(header, 0, image, 0, header.length);
    return image;
  }

  private Snapshot open(byte[] content) throws IOException {
    return SnapshotOpener.open(file(content), 0);
  }

  private NativeFile file(byte[] content) throws IOException {
    Path path = Files.createTempFile(folder, "image", ".save");
    Files.write(path, content);
    return NativeFile.open(path, NativeFile.Mode.READ);
  }

  private void assertRefused(byte[] content, String message) throws IOException {
    NativeFile file = file(content);
    assertThatThrownBy(() -> SnapshotOpener.open(file, 0))
        .isInstanceOf(StreamFormatException.class)
        .hasMessage(message);
    assertThatThrownBy(file::fd).isInstanceOf(IllegalStateException.class);
  }
}
