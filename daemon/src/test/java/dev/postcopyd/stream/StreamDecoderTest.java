package dev.postcopyd.stream;

import static dev.postcopyd.stream.RecordedBytes.AFTER_PAGES;
import static dev.postcopyd.stream.RecordedBytes.PC_HEAD;
import static dev.postcopyd.stream.RecordedBytes.UUID_CONFIGURATION;
import static dev.postcopyd.stream.RecordedBytes.hex;
import static dev.postcopyd.stream.RecordedBytes.input;
import static dev.postcopyd.stream.RecordedBytes.patched;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.stream.StreamRecord.Command;
import dev.postcopyd.stream.StreamRecord.Configuration;
import dev.postcopyd.stream.StreamRecord.EndOfStream;
import dev.postcopyd.stream.StreamRecord.SectionEnd;
import dev.postcopyd.stream.StreamRecord.SectionFull;
import dev.postcopyd.stream.StreamRecord.SectionPart;
import dev.postcopyd.stream.StreamRecord.SectionStart;
import dev.postcopyd.stream.StreamRecord.VmDescription;
import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class StreamDecoderTest {
  @Test
  void decodesTheHeadOfARecordedFile() throws IOException {
    StreamInput in = input(PC_HEAD);
    StreamDecoder decoder = new StreamDecoder(in);

    decoder.header();
    assertThat(decoder.next())
        .isEqualTo(
            new Configuration(
                "pc-i440fx-10.0",
                List.of(new ConfigurationSubsection.Capabilities(List.of("mapped-ram")))));
    assertThat(in.offsetBytes()).isEqualTo(0x4a);
    assertThat(decoder.next()).isEqualTo(new SectionStart(1, "ram", 0, 4));
    assertThat(decoder.ramTotal()).isEqualTo(0x210d2000L);
    RamBlockEntry block = decoder.ramBlock();
    assertThat(block)
        .isEqualTo(
            new RamBlockEntry("pc.ram", 512L << 20, 0x72, new MappedRamHeader(0x8e, 0x100000)));
    assertThat(block.lengthOffsetBytes()).isEqualTo(0x6a);
    assertThat(block.headerEndBytes()).isEqualTo(0x8e);
    assertThat(RamBlockEntry.lengthBytes("pc.ram")).isEqualTo(0x8e - 0x63);
    assertThat(in.remainingBytes()).isZero();
  }

  @Test
  void decodesEverySubsection() throws IOException {
    Configuration configuration =
        (Configuration) new StreamDecoder(input(UUID_CONFIGURATION)).next();

    assertThat(configuration.machineType()).isEqualTo("pc-q35-10.0");
    assertThat(configuration.capabilities()).containsExactly("mapped-ram");
    assertThat(configuration.subsections())
        .last()
        .isEqualTo(
            new ConfigurationSubsection.Uuid(
                UUID.fromString("12345678-1234-1234-1234-123456789abc")));

    byte[] pageBits =
        hex(
            """
            07 00 00 00 04 76 69 72 74
            05 1e 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 74 61 72 67 65 74 2d 70 61 67 65 2d 62 69 74 73
            00 00 00 01 00 00 00 0c 01
            """);
    assertThat(new StreamDecoder(input(pageBits)).next())
        .isEqualTo(
            new Configuration("virt", List.of(new ConfigurationSubsection.TargetPageBits(12))));
  }

  @Test
  void decodesWhatFollowsThePages() throws IOException {
    StreamInput in = input(AFTER_PAGES);
    StreamDecoder decoder = new StreamDecoder(in);

    decoder.ramEnd();
    decoder.footer(1);
    assertThat(decoder.next()).isEqualTo(new SectionPart(1));
    decoder.ramEnd();
    decoder.footer(1);
    assertThat(decoder.next()).isEqualTo(new Command(StreamFormat.COMMAND_SWITCHOVER_START, 0));
    assertThat(decoder.next()).isEqualTo(new SectionEnd(1));
    decoder.ramEnd();
    decoder.footer(1);
    assertThat(decoder.next()).isEqualTo(new SectionFull(0, "timer", 0, 2));
    assertThat(in.remainingBytes()).isZero();
  }

  @Test
  void decodesTheTail() throws IOException {
    StreamDecoder decoder = new StreamDecoder(input(hex("00 06 00 01 a7 0e")));

    assertThat(decoder.next()).isEqualTo(new EndOfStream());
    assertThat(decoder.next()).isEqualTo(new VmDescription(108302));
  }

  @Test
  void readsOverWindowBoundaries() throws IOException {
    byte[] bytes = new byte[3 * 4096];
    for (int i = 0; i < bytes.length; i++) {
      bytes[i] = (byte) (i * 31);
    }
    StreamInput in = input(bytes);
    long value = 0;
    for (int i = 0; i + 7 < bytes.length; i += 7) {
      in.seek(i);
      value = in.readBe64("value");
      for (int k = 0; k < 8; k++) {
        assertThat((byte) (value >>> (56 - 8 * k))).isEqualTo(bytes[i + k]);
      }
    }
    in.seek(0);
    assertThat(in.peekU8("value")).isEqualTo(in.readU8("value"));
    in.seek(5000);
    assertThat(in.bytesSince(100)).isEqualTo(Arrays.copyOfRange(bytes, 100, 5000));
  }

  @Test
  void everyTruncationIsAnErrorAtTheValueThatIsMissing() {
    for (int length = 0; length < PC_HEAD.length; length++) {
      byte[] truncated = Arrays.copyOf(PC_HEAD, length);
      assertThatThrownBy(() -> decodeHead(truncated))
          .as("%d bytes", length)
          .isInstanceOfSatisfying(
              StreamFormatException.class,
              e ->
                  assertThat(e.offsetBytes())
                      .isBetween(Math.max(0L, truncated.length - 26L), (long) truncated.length))
          .hasMessageStartingWith("truncated: ");
    }
  }

  @Test
  void truncationSaysWhatIsMissing() {
    assertThatThrownBy(() -> decodeHead(Arrays.copyOf(PC_HEAD, 0x60)))
        .hasMessage(
            "truncated: RAM size needs 8 bytes, but only 5 are left at byte offset 91 (0x5b)");
    assertThatThrownBy(() -> decodeHead(Arrays.copyOf(PC_HEAD, 0x10)))
        .hasMessage(
            "truncated: machine type needs 14 bytes, but only 3 are left at byte offset 13 (0xd)");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          00 | 50                      | stream magic is 0x5045564d instead of 0x5145564d at byte offset 0 (0x0)
          04 | 00000002                | stream version 2 is not supported (only 3) at byte offset 4 (0x4)
          04 | 80000003                | stream version 2147483651 is not supported (only 3) at byte offset 4 (0x4)
          08 | 09                      | unknown section type 0x09 at byte offset 8 (0x8)
          09 | 00000000                | machine type has a length of 0 bytes (1 to 255 are possible) at byte offset 9 (0x9)
          09 | ffffffff                | machine type has a length of 4294967295 bytes (1 to 255 are possible) at byte offset 9 (0x9)
          0d | 0a                      | machine type has the byte 0xa, which is not printable at byte offset 13 (0xd)
          2b | 78                      | unknown configuration subsection 'configuration/xapabilities' at byte offset 28 (0x1c)
          37 | 00000002                | configuration subsection 'configuration/capabilities' has version 2, which is not supported (only 1) at byte offset 55 (0x37)
          3b | 00000041                | configuration lists 65 capabilities at byte offset 59 (0x3b)
          3b | ffffffff                | configuration lists 4294967295 capabilities at byte offset 59 (0x3b)
          3f | 00                      | capability name is empty at byte offset 63 (0x3f)
          4a | 0b                      | unknown section type 0x0b at byte offset 74 (0x4a)
          4f | 00                      | section name is empty at byte offset 79 (0x4f)
          5b | 00000000210d2024        | RAM section begins with 0x210d2024, which is no RAM size at byte offset 91 (0x5b)
          63 | 00                      | block name is empty at byte offset 99 (0x63)
          72 | 00000002                | mapped-ram header version 2 is not supported (only 1) at byte offset 114 (0x72)
          72 | 00000000                | mapped-ram header version 0 is not supported (only 1) at byte offset 114 (0x72)
          76 | 0000000000000000        | page size 0 is not a power of two at byte offset 118 (0x76)
          76 | 0000000000000003        | page size 3 is not a power of two at byte offset 118 (0x76)
          76 | 8000000000000000        | page size 9223372036854775808 is not supported (only 4096) at byte offset 118 (0x76)
          76 | 0000000000000800        | page size 2048 is not supported (only 4096) at byte offset 118 (0x76)
          76 | ffffffffffffffff        | page size 18446744073709551615 is not a power of two at byte offset 118 (0x76)
          """)
  void damageInTheHeadIsNamed(String at, String bytes, String message) {
    byte[] damaged = patched(PC_HEAD, Integer.parseInt(at, 16), ints(hex(bytes)));

    assertThatThrownBy(() -> decodeHead(damaged))
        .isInstanceOf(StreamFormatException.class)
        .hasMessage(message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          00 | 0000000000000008 | RAM section has 0x8 instead of its end word 0x10 at byte offset 0 (0x0)
          08 | 03               | section 1 ends in 0x03 instead of a footer at byte offset 8 (0x8)
          09 | 80000001         | footer of section 2147483649 stands behind section 1 at byte offset 9 (0x9)
          """)
  void damageBehindThePagesIsNamed(String at, String bytes, String message) {
    StreamDecoder decoder =
        new StreamDecoder(input(patched(AFTER_PAGES, Integer.parseInt(at, 16), ints(hex(bytes)))));

    assertThatThrownBy(
            () -> {
              decoder.ramEnd();
              decoder.footer(1);
            })
        .isInstanceOf(StreamFormatException.class)
        .hasMessage(message);
  }

  @Test
  void aSubsectionThatStandsTwiceIsRefused() {
    byte[] twice = Arrays.copyOf(UUID_CONFIGURATION, UUID_CONFIGURATION.length - 1 + 40);
    System.arraycopy(
        UUID_CONFIGURATION,
        UUID_CONFIGURATION.length - 41,
        twice,
        UUID_CONFIGURATION.length - 1,
        40);

    assertThatThrownBy(() -> new StreamDecoder(input(twice)).next())
        .hasMessage("configuration subsection stands twice at byte offset 103 (0x67)");
  }

  @Test
  void aVmDescriptionBeyondTwoGigabytesIsRefused() {
    assertThatThrownBy(() -> new StreamDecoder(input(hex("06 80 00 00 00"))).next())
        .hasMessage("vmdescription length 2147483648 is too large at byte offset 1 (0x1)");
  }

  private static void decodeHead(byte[] bytes) throws IOException {
    StreamDecoder decoder = new StreamDecoder(input(bytes));
    decoder.header();
    decoder.next();
    decoder.next();
    decoder.ramTotal();
    decoder.ramBlock();
  }

  private static int[] ints(byte[] bytes) {
    int[] values = new int[bytes.length];
    for (int i = 0; i < bytes.length; i++) {
      values[i] = bytes[i] & 0xff;
    }
    return values;
  }
}
