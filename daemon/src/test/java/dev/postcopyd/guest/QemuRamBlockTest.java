package dev.postcopyd.guest;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.page.PageSize;
import java.io.IOException;
import java.net.ProtocolException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** QEMU's list of RAM blocks, as two releases were seen to write it. */
class QemuRamBlockTest {
  private static final String HEADER =
      "              Block Name    PSize              Offset               Used              Total                HVA  RO\n";
  private static final String PC_RAM =
      "                  pc.ram    4 KiB  0x0000000000000000 0x0000000020000000 0x0000000020000000 0x00007f8ce7e00000  rw\n";

  private static List<QemuRamBlock> recorded(String version, String name) throws IOException {
    return QemuRamBlock.parse(
        Files.readString(Path.of("../testdata/ramblocks", version, name + ".txt")));
  }

  @ParameterizedTest
  @ValueSource(strings = {"qemu-10.0.2", "qemu-11.1.3"})
  void readsAPc(String version) throws IOException {
    List<QemuRamBlock> blocks = recorded(version, "pc");

    assertThat(blocks).hasSize(9);
    assertThat(blocks.getFirst())
        .isEqualTo(new QemuRamBlock("pc.ram", PageSize.SIZE_4K, 512 << 20, 512 << 20));
    assertThat(blocks.get(2))
        .isEqualTo(new QemuRamBlock("/rom@etc/acpi/tables", PageSize.SIZE_4K, 0x20000, 0x200000));
    assertThat(blocks)
        .extracting(QemuRamBlock::name)
        .contains("0000:00:02.0/vga.vram", "0000:00:03.0/e1000.rom", "/rom@etc/acpi/rsdp");
  }

  @ParameterizedTest
  @ValueSource(strings = {"qemu-10.0.2", "qemu-11.1.3"})
  void readsPageSizesOfBackends(String version) throws IOException {
    assertThat(recorded(version, "q35-hugetlb").getFirst())
        .isEqualTo(new QemuRamBlock("m0", PageSize.SIZE_2M, 64 << 20, 64 << 20));
    assertThat(recorded(version, "q35-memfd").getFirst())
        .isEqualTo(new QemuRamBlock("m0", PageSize.SIZE_4K, 256 << 20, 256 << 20));
    assertThat(recorded(version, "two-nodes"))
        .extracting(QemuRamBlock::name)
        .startsWith("n0", "n1");
  }

  @Test
  void aNameMayHaveSpacesAndBeLong() throws IOException {
    assertThat(
            QemuRamBlock.parse(
                    HEADER
                        + PC_RAM.replace(
                            "                  pc.ram",
                            "a rather long name of a block 4 KiB of it"))
                .getFirst()
                .name())
        .isEqualTo("a rather long name of a block 4 KiB of it");
  }

  @Test
  void aQemuWithoutMemoryHasNoBlocks() throws IOException {
    assertThat(QemuRamBlock.parse(HEADER)).isEmpty();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "\n",
        "Block Name Offset",
        "x\n",
        "              Block Name    PSize              Used              Offset               Total\n"
      })
  void anotherHeaderIsRefused(String text) {
    assertThatThrownBy(() -> QemuRamBlock.parse(text)).isInstanceOf(ProtocolException.class);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "pc.ram 4 KiB 0x0000000000000000 0x0000000020000000",
        "pc.ram 4 KiB 0 0x0000000020000000 0x0000000020000000 0x0000000020000000 rw",
        "pc.ram 3 KiB 0x0000000000000000 0x0000000020000000 0x0000000020000000 0x00007f8ce7e00000  rw",
        "pc.ram 0 KiB 0x0000000000000000 0x0000000020000000 0x0000000020000000 0x00007f8ce7e00000  rw",
        "pc.ram 9999 TiB 0x0000000000000000 0x0000000020000000 0x0000000020000000 0x00007f8ce7e00000  rw",
        "pc.ram 4 KB 0x0000000000000000 0x0000000020000000 0x0000000020000000 0x00007f8ce7e00000  rw",
        "pc.ram 4 KiB 0x0000000000000000 0xffffffffffffffff 0x0000000020000000 0x00007f8ce7e00000  rw",
        "pc.ram 4 KiB 0x0000000000000000 0x0000000020000001 0x0000000020000000 0x00007f8ce7e00000  rw",
        "pc.ram 4 KiB 0x0000000000000000 0x0000000020000000 0x0000000020000000 0x00007f8ce7e00000  rx",
        "4 KiB 0x0000000000000000 0x0000000020000000 0x0000000020000000 0x00007f8ce7e00000  rw"
      })
  void anotherLineIsRefusedAndShown(String line) {
    assertThatThrownBy(() -> QemuRamBlock.parse(HEADER + PC_RAM + line + "\n"))
        .isInstanceOf(ProtocolException.class)
        .hasMessageContaining(line);
  }
}
