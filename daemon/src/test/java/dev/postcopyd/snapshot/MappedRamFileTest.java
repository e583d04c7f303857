package dev.postcopyd.snapshot;

import static dev.postcopyd.snapshot.SyntheticSnapshot.damaged;
import static dev.postcopyd.snapshot.SyntheticSnapshot.parse;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamSource;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * The checks of the mapped-ram reader, on small files made by hand: what is damaged, where, and the
 * exact words that say so. The places are those of {@link SyntheticSnapshot#usual()}:
 *
 * <pre>
 * 0x00063 "pc.ram"   length 0x6a     header 0x72     bitmap 0x8e     pages 0x1000 to 0x47000
 * 0x47000 "pc.bios"  length 0x47008  header 0x47010  bitmap 0x4702c  pages 0x48000 to 0x4a000
 * 0x4a000 end word, footer; PART 0x4a00d; command 0x4a01f; END 0x4a024; devices 0x4a036
 * 0x4a0e1 end marker, vmdescription; the file ends at 0x4a1d5
 * </pre>
 */
class MappedRamFileTest {
  private static final byte[] FILE = SyntheticSnapshot.usual().build();

  @Test
  void readsWhatIsThere() throws IOException {
    MappedRamContents contents = parse(FILE);

    assertThat(contents.blocks())
        .extracting(SnapshotBlock::name)
        .containsExactly("pc.ram", "pc.bios");
    SnapshotBlock ram = contents.blocks().getFirst();
    assertThat(ram.usedLengthBytes()).isEqualTo(70 * 4096);
    assertThat(ram.pageCount()).isEqualTo(70);
    assertThat(ram.pagesOffsetBytes()).isEqualTo(0x1000);
    assertThat(ram.storedPages()).isEqualTo(4);
    for (int page = 0; page < 70; page++) {
      assertThat(ram.isStored(page))
          .as("page %d", page)
          .isEqualTo(page == 0 || page == 6 || page == 64 || page == 69);
    }
    assertThat(ram.runLength(1, 100)).isEqualTo(5);
    assertThat(ram.runLength(7, 100)).isEqualTo(57);
    assertThat(ram.runLength(65, 100)).isEqualTo(4);
    assertThat(contents.blocks().getLast().isStored(1)).isTrue();
    assertThat(contents.layouts())
        .containsExactly(
            new BlockLayout(0x72, 0x8e, 0x1000), new BlockLayout(0x47010, 0x4702c, 0x48000));
    assertThat(contents.deviceSectionsOffsetBytes()).isEqualTo(0x4a036);

    MachineState state = contents.machineState();
    assertThat(state.machineType()).contains("pc-i440fx-10.0");
    assertThat(state.configuration()).isEqualTo(Arrays.copyOfRange(FILE, 8, 0x4a));
    assertThat(state.ramSectionId()).isEqualTo(1);
    assertThat(state.commands()).isEqualTo(HexFormat.of().parseHex("08000b0000"));
    assertThat(state.deviceSections()).isEqualTo(SyntheticSnapshot.DEVICES);
    assertThat(state.deviceSectionsLengthBytes()).isEqualTo(SyntheticSnapshot.DEVICES.length);
    assertThat(state.vmDescriptionJson().orElseThrow())
        .isEqualTo(SyntheticSnapshot.JSON.getBytes(StandardCharsets.US_ASCII));
  }

  @Test
  void theMachineStateCannotBeChangedFromOutside() throws IOException {
    MachineState state = parse(FILE).machineState();
    Arrays.fill(state.configuration(), (byte) 0);
    Arrays.fill(state.commands(), (byte) 0);
    Arrays.fill(state.deviceSections(), (byte) 0);
    Arrays.fill(state.vmDescriptionJson().orElseThrow(), (byte) 0);

    assertThat(state.configuration()).startsWith(7);
    assertThat(state.commands()).startsWith(8);
    assertThat(state.deviceSections()).startsWith(4);
    assertThat(state.vmDescriptionJson().orElseThrow()).startsWith('{');
  }

  @Test
  void withoutVmDescriptionTheFileEndsInTheEndMarker() throws IOException {
    MachineState state =
        parse(SyntheticSnapshot.usual().withoutVmDescription().build()).machineState();

    assertThat(state.deviceSections()).isEqualTo(SyntheticSnapshot.DEVICES);
    assertThat(state.vmDescriptionJson()).isEmpty();
  }

  @Test
  void aStreamMayBeginAnywhere() throws IOException {
    byte[] file = SyntheticSnapshot.usual().buildAt(12345);
    MappedRamContents contents = MappedRamFile.parse(SyntheticSnapshot.source(file), 12345);

    assertThat(contents.layouts().getFirst())
        .isEqualTo(new BlockLayout(12345 + 0x72, 12345 + 0x8e, 0x4000));
    assertThat(contents.machineState().deviceSections()).isEqualTo(SyntheticSnapshot.DEVICES);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          00000 | 51455646         | stream magic is 0x51455646 instead of 0x5145564d at byte offset 0 (0x0)
          00004 | 00000004         | stream version 4 is not supported (only 3) at byte offset 4 (0x4)
          00008 | 01               | the configuration section is missing, and with it the capability mapped-ram at byte offset 8 (0x8)
          0002b | 43               | unknown configuration subsection 'configuration/Capabilities' at byte offset 28 (0x1c)
          00040 | 4d               | a migration stream, but not a mapped-ram file: it was saved without the capability mapped-ram at byte offset 8 (0x8)
          0004a | 04               | early section 1 has no footer within 262144 bytes at byte offset 91 (0x5b)
          0004a | 00               | the stream ends before RAM at byte offset 74 (0x4a)
          0004a | 02               | section 1 has not been started at byte offset 74 (0x4a)
          00050 | 7a               | section 'zam' is saved in parts before RAM: its data cannot be delimited at byte offset 74 (0x4a)
          00053 | 00000001         | RAM section has the instance id 1 at byte offset 74 (0x4a)
          00057 | 00000005         | RAM section version 5 is not supported (only 4) at byte offset 74 (0x4a)
          0005b | 0000000000000004 | RAM size of 0 bytes is not possible (at most 70368744177664) at byte offset 91 (0x5b)
          0005b | 8000000000000004 | RAM size of 9223372036854775808 bytes is not possible (at most 70368744177664) at byte offset 91 (0x5b)
          0005b | 0000400000001004 | RAM size of 70368744181760 bytes is not possible (at most 70368744177664) at byte offset 91 (0x5b)
          0005b | 000000000004b004 | truncated: RAM has 307200 bytes, but the file only 303573 at byte offset 91 (0x5b)
          0005b | 0000000000049004 | the RAM blocks end with 4096 of 299008 bytes of RAM missing at byte offset 303104 (0x4a000)
          0005b | 0000000000047004 | block 'pc.bios' has 8192 bytes, but only 4096 are left of the RAM size at byte offset 290824 (0x47008)
          0006a | 0000000000000000 | length 0 of block 'pc.ram' is no multiple of the page size at byte offset 106 (0x6a)
          0006a | 0000000000046001 | length 286721 of block 'pc.ram' is no multiple of the page size at byte offset 106 (0x6a)
          0006a | fffffffffffff000 | block 'pc.ram' has 18446744073709547520 bytes, but only 294912 are left of the RAM size at byte offset 106 (0x6a)
          00072 | 00000002         | mapped-ram header version 2 is not supported (only 1) at byte offset 114 (0x72)
          00076 | 0000000000000000 | page size 0 is not a power of two at byte offset 118 (0x76)
          00076 | 0000000000000003 | page size 3 is not a power of two at byte offset 118 (0x76)
          00076 | 8000000000000000 | page size 9223372036854775808 is not supported (only 4096) at byte offset 118 (0x76)
          0007e | 000000000004a1d0 | bitmap of block 'pc.ram' (16 bytes from 0x4a1d0 on) end beyond the end of the file (303573 bytes) at byte offset 126 (0x7e)
          0007e | ffffffffffffffff | bitmap of block 'pc.ram' (16 bytes from 0xffffffffffffffff on) end beyond the end of the file (303573 bytes) at byte offset 126 (0x7e)
          0007e | 7ffffffffffffff8 | bitmap of block 'pc.ram' (16 bytes from 0x7ffffffffffffff8 on) end beyond the end of the file (303573 bytes) at byte offset 126 (0x7e)
          0007e | 000000000000008d | bitmap of block 'pc.ram' (16 bytes from 0x8d on) overlap the header of block 'pc.ram' (from 0x63 to 0x8e) at byte offset 126 (0x7e)
          0007e | 0000000000000000 | bitmap of block 'pc.ram' (16 bytes from 0x0 on) overlap the stream header (from 0x0 to 0x63) at byte offset 126 (0x7e)
          00086 | 0000000000001001 | pages of block 'pc.ram' begin at 0x1001, which is no multiple of the page size at byte offset 134 (0x86)
          00086 | 0000000000005000 | pages of block 'pc.ram' (286720 bytes from 0x5000 on) end beyond the end of the file (303573 bytes) at byte offset 134 (0x86)
          00086 | fffffffffffff000 | pages of block 'pc.ram' (286720 bytes from 0xfffffffffffff000 on) end beyond the end of the file (303573 bytes) at byte offset 134 (0x86)
          00086 | 7ffffffffffff000 | pages of block 'pc.ram' (286720 bytes from 0x7ffffffffffff000 on) end beyond the end of the file (303573 bytes) at byte offset 134 (0x86)
          00086 | 0000000000000000 | pages of block 'pc.ram' (286720 bytes from 0x0 on) overlap the stream header (from 0x0 to 0x63) at byte offset 134 (0x86)
          0009d | 01               | bitmap of block 'pc.ram' has page 120, but the block has only 70 pages at byte offset 157 (0x9d)
          00096 | 61               | bitmap of block 'pc.ram' has page 70, but the block has only 70 pages at byte offset 150 (0x96)
          47000 | 00               | block name is empty at byte offset 290816 (0x47000)
          47001 | 0a               | block name has the byte 0xa, which is not printable at byte offset 290817 (0x47001)
          4701c | 0000000000046000 | bitmap of block 'pc.bios' (8 bytes from 0x46000 on) overlap the pages of block 'pc.ram' (from 0x1000 to 0x47000) at byte offset 290844 (0x4701c)
          4701c | 00000000000000a0 | bitmap of block 'pc.bios' (8 bytes from 0xa0 on) lie before 0x4702c, where they cannot begin at byte offset 290844 (0x4701c)
          47024 | 0000000000046000 | pages of block 'pc.bios' (8192 bytes from 0x46000 on) overlap the pages of block 'pc.ram' (from 0x1000 to 0x47000) at byte offset 290852 (0x47024)
          47024 | 0000000000047000 | pages of block 'pc.bios' (8192 bytes from 0x47000 on) overlap the header of block 'pc.bios' (from 0x47000 to 0x4702c) at byte offset 290852 (0x47024)
          4a007 | 08               | RAM section has 0x8 instead of its end word 0x10 at byte offset 303104 (0x4a000)
          4a008 | 7d               | section 1 ends in 0x7d instead of a footer at byte offset 303112 (0x4a008)
          4a00c | 02               | footer of section 2 stands behind section 1 at byte offset 303113 (0x4a009)
          4a00d | 04               | section name is empty at byte offset 303122 (0x4a012)
          4a00d | 09               | unknown section type 0x09 at byte offset 303117 (0x4a00d)
          4a00d | 00               | the stream ends beside RAM at byte offset 303117 (0x4a00d)
          4a011 | 07               | section 7 has not been started at byte offset 303117 (0x4a00d)
          4a021 | 05               | command 5 (0 bytes) does not belong into a snapshot at byte offset 303135 (0x4a01f)
          4a023 | 01               | command 11 (1 bytes) does not belong into a snapshot at byte offset 303135 (0x4a01f)
          4a036 | 01               | section type 0x01 where the device sections begin at byte offset 303158 (0x4a036)
          4a0dc | 00               | no section footer before the end marker at byte offset 303329 (0x4a0e1)
          4a0e1 | 01               | missing end marker: the file ends in 0x7d, and not with a vmdescription (truncated, or foreign bytes behind the stream) at byte offset 303572 (0x4a1d4)
          4a0e2 | 05               | missing end marker: the file ends in 0x7d, and not with a vmdescription (truncated, or foreign bytes behind the stream) at byte offset 303572 (0x4a1d4)
          4a0e6 | ed               | missing end marker: the file ends in 0x7d, and not with a vmdescription (truncated, or foreign bytes behind the stream) at byte offset 303572 (0x4a1d4)
          4a0f0 | 00               | missing end marker: the file ends in 0x7d, and not with a vmdescription (truncated, or foreign bytes behind the stream) at byte offset 303572 (0x4a1d4)
          """)
  void damageIsNamed(String at, String hex, String message) {
    byte[] damaged = damaged(FILE, Integer.parseInt(at, 16), hex);

    assertThatThrownBy(() -> parse(damaged))
        .isInstanceOf(StreamFormatException.class)
        .hasMessage(message);
  }

  @Test
  void everyTruncationIsRefused() {
    for (int length = 0; length < FILE.length; length++) {
      if (length == 0x4a0e2) {
        continue; // See below.
      }
      if (length > 0x1100 && length < 0x46ff0) {
        length += 510; // In the middle of the pages every place is like the next.
      }
      StreamSource truncated = SyntheticSnapshot.source(FILE, length);
      assertThatThrownBy(() -> MappedRamFile.parse(truncated, 0))
          .as("%d bytes", length)
          .isInstanceOf(StreamFormatException.class);
    }
  }

  @Test
  void aFileThatEndsWithItsEndMarkerIsComplete() throws IOException {
    MachineState state = parse(Arrays.copyOf(FILE, 0x4a0e2)).machineState();

    assertThat(state.deviceSections()).isEqualTo(SyntheticSnapshot.DEVICES);
    assertThat(state.vmDescriptionJson()).isEmpty();
  }

  @Test
  void everyTruncationIsRefusedWithoutVmDescriptionToo() {
    byte[] file = SyntheticSnapshot.usual().withoutVmDescription().build();
    for (int length = 0x4a000; length < file.length; length++) {
      StreamSource truncated = SyntheticSnapshot.source(file, length);
      assertThatThrownBy(() -> MappedRamFile.parse(truncated, 0))
          .as("%d bytes", length)
          .isInstanceOf(StreamFormatException.class);
    }
  }

  @Test
  void bytesBehindTheStreamAreRefused() {
    assertThatThrownBy(() -> parse(Arrays.copyOf(FILE, FILE.length + 1)))
        .hasMessage("no section footer before the end marker at byte offset 303573 (0x4a1d5)");
    byte[] newline = Arrays.copyOf(FILE, FILE.length + 1);
    newline[FILE.length] = '\n';
    assertThatThrownBy(() -> parse(newline))
        .hasMessage(
            "missing end marker: the file ends in 0x0a, and not with a vmdescription"
                + " (truncated, or foreign bytes behind the stream) at byte offset 303573 (0x4a1d5)");
  }

  @Test
  void aFileThatEndsBehindRamHasNoEndMarker() {
    assertThatThrownBy(() -> parse(Arrays.copyOf(FILE, 0x4a036)))
        .hasMessage("missing end marker: the file ends behind RAM at byte offset 303158 (0x4a036)");
  }

  @Test
  void twoBlocksOfOneNameAreRefused() {
    byte[] file = new SyntheticSnapshot().block("pc.ram", 4096, 1).block("pc.ram", 4096, 1).build();

    assertThatThrownBy(() -> parse(file))
        .hasMessage("two RAM blocks are named 'pc.ram' at byte offset 8192 (0x2000)");
  }

  @Test
  void namesOf255BytesAreTaken() throws IOException {
    String longName = "n".repeat(255);
    byte[] file =
        new SyntheticSnapshot().block(longName, 4096, 1).block("m".repeat(255), 4096, 1).build();

    assertThat(parse(file).blocks().getFirst().name()).isEqualTo(longName);
  }

  @Test
  void capabilitiesThatChangeTheFileAreRefused() {
    assertThatThrownBy(
            () -> parse(SyntheticSnapshot.usual().capabilities("mapped-ram", "x-new").build()))
        .hasMessage("capability 'x-new' is not supported at byte offset 8 (0x8)");
    assertThatThrownBy(() ->
            parse(SyntheticSnapshot.usual().capabilities("x-ignore-shared", "mapped-ram").build()))
        .hasMessage(
            "saved with the capability x-ignore-shared: shared memory is not in the file at byte offset 8 (0x8)");
  }

  @Test
  void aCommandBeforeRamIsRefused() throws IOException {
    byte[] file = SyntheticSnapshot.usual().withCommandBeforeRam().build();
    // An ADVISE without a payload speaks of dirty bitmaps, which may follow or not.
    assertThat(parse(file).machineState().besideRam().sections()).isEmpty();
    file[0x4a + 2] = 2;
    assertThatThrownBy(() -> parse(file))
        .hasMessage("command 2 stands before RAM at byte offset 74 (0x4a)");
  }

  @Test
  void aMillionBlocksAreRefusedInLittleTime() {
    // No file of that many blocks need exist: every block looks like the first, wherever it is
    // read.
    int blocks = 1_000_000;
    byte[] head =
        new SyntheticSnapshot().block("b0000000", 4096, 1).announcing(blocks * 4096L).build();
    AtomicInteger reads = new AtomicInteger();
    StreamSource endless =
        new StreamSource() {
          @Override
          public long sizeBytes() {
            return 1L << 40;
          }

          @Override
          public int readAt(long offsetBytes, byte[] into, int from, int length) {
            reads.incrementAndGet();
            Arrays.fill(into, from, from + length, (byte) 0);
            if (offsetBytes < 4096) {
              System.arraycopy(head, (int) offsetBytes, into, from, Math.min(length, 4096));
            } else if (offsetBytes % 8192 == 0) {
              byte[] entry = Arrays.copyOfRange(head, 0x63, 0x63 + 45);
              byte[] name =
                  "b%07d".formatted(offsetBytes / 8192).getBytes(StandardCharsets.US_ASCII);
              System.arraycopy(name, 0, entry, 1, 8);
              putBe64(entry, 29, offsetBytes + 45);
              putBe64(entry, 37, offsetBytes + 4096);
              System.arraycopy(entry, 0, into, from, Math.min(length, 45));
            }
            return length;
          }
        };

    assertThatThrownBy(() -> MappedRamFile.parse(endless, 0))
        .hasMessage(
            "more than 4096 RAM blocks are not supported at byte offset 33554432 (0x2000000)");
    assertThat(reads.get()).isLessThan(3 * 4096);
  }

  @Test
  void aTailThatNoDeviceStateCanHaveIsRefusedBeforeItIsRead() {
    AtomicInteger largest = new AtomicInteger();
    StreamSource sparse =
        new StreamSource() {
          @Override
          public long sizeBytes() {
            return 0x4a036L + (320 << 20) + 1;
          }

          @Override
          public int readAt(long offsetBytes, byte[] into, int from, int length) {
            largest.accumulateAndGet(length, Math::max);
            int count = Math.clamp(FILE.length - offsetBytes, 0, length);
            System.arraycopy(FILE, (int) Math.min(offsetBytes, FILE.length), into, from, count);
            return length;
          }
        };

    assertThatThrownBy(() -> MappedRamFile.parse(sparse, 0))
        .hasMessage(
            "device state and vmdescription of 335544321 bytes are too large (at most 335544320)"
                + " at byte offset 303158 (0x4a036)");
    assertThat(largest.get()).isLessThanOrEqualTo(4096);
  }

  @Test
  void aFileThatShrinksWhileItIsReadIsRefused() {
    StreamSource shrinking =
        new StreamSource() {
          @Override
          public long sizeBytes() {
            return FILE.length;
          }

          @Override
          public int readAt(long offsetBytes, byte[] into, int from, int length) {
            int count = Math.clamp(0x4a100 - offsetBytes, 0, length);
            System.arraycopy(FILE, (int) offsetBytes, into, from, count);
            return count;
          }
        };

    assertThatThrownBy(() -> MappedRamFile.parse(shrinking, 0))
        .hasMessage("the file was truncated while it was read at byte offset 303158 (0x4a036)");
  }

  private static void putBe64(byte[] bytes, int at, long value) {
    for (int i = 0; i < 8; i++) {
      bytes[at + i] = (byte) (value >>> (56 - 8 * i));
    }
  }
}
