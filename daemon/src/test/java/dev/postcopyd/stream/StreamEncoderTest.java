package dev.postcopyd.stream;

import static dev.postcopyd.stream.RecordedBytes.AFTER_PAGES;
import static dev.postcopyd.stream.RecordedBytes.PC_HEAD;
import static dev.postcopyd.stream.RecordedBytes.UUID_CONFIGURATION;
import static dev.postcopyd.stream.RecordedBytes.hex;
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
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import org.junit.jupiter.api.Test;

/**
 * What the encoder writes is compared with bytes that QEMU wrote, never with the decoder's idea.
 */
class StreamEncoderTest {
  private static final ConfigurationSubsection MAPPED_RAM =
      new ConfigurationSubsection.Capabilities(List.of("mapped-ram"));

  @Test
  void writesTheHeadOfARecordedFile() {
    StreamEncoder out =
        new StreamEncoder()
            .header()
            .record(new Configuration("pc-i440fx-10.0", List.of(MAPPED_RAM)))
            .record(new SectionStart(1, "ram", 0, 4))
            .ramTotal(0x210d2000L)
            .ramBlock("pc.ram", 512L << 20, new MappedRamHeader(0x8e, 0x100000));

    assertThat(out.toByteArray()).isEqualTo(PC_HEAD);
    assertThat(out.sizeBytes()).isEqualTo(0x8e);
  }

  @Test
  void writesSubsections() {
    UUID uuid = UUID.fromString("12345678-1234-1234-1234-123456789abc");
    byte[] configuration =
        new StreamEncoder()
            .record(
                new Configuration(
                    "pc-q35-10.0", List.of(MAPPED_RAM, new ConfigurationSubsection.Uuid(uuid))))
            .toByteArray();

    assertThat(configuration)
        .isEqualTo(Arrays.copyOf(UUID_CONFIGURATION, UUID_CONFIGURATION.length - 1));
    assertThat(
            new StreamEncoder()
                .record(
                    new Configuration(
                        "virt", List.of(new ConfigurationSubsection.TargetPageBits(12))))
                .toByteArray())
        .endsWith(hex("62 69 74 73 00 00 00 01 00 00 00 0c"));
  }

  @Test
  void writesWhatFollowsThePages() {
    byte[] bytes =
        new StreamEncoder()
            .ramEnd()
            .footer(1)
            .record(new SectionPart(1))
            .ramEnd()
            .footer(1)
            .record(new Command(StreamFormat.COMMAND_SWITCHOVER_START, 0))
            .record(new SectionEnd(1))
            .ramEnd()
            .footer(1)
            .record(new SectionFull(0, "timer", 0, 2))
            .toByteArray();

    assertThat(bytes).isEqualTo(AFTER_PAGES);
  }

  @Test
  void writesTheTailAndGrows() {
    byte[] json = new byte[108302];
    Arrays.fill(json, (byte) '{');
    byte[] bytes =
        new StreamEncoder()
            .record(new EndOfStream())
            .record(new VmDescription(json.length))
            .bytes(json)
            .toByteArray();

    assertThat(bytes)
        .hasSize(6 + json.length)
        .startsWith(hex("00 06 00 01 a7 0e 7b"))
        .endsWith(hex("7b"));
  }

  @Test
  void bitmapsTakeWholeWords() {
    assertThat(MappedRamHeader.bitmapBytes(1)).isEqualTo(8);
    assertThat(MappedRamHeader.bitmapBytes(64)).isEqualTo(8);
    assertThat(MappedRamHeader.bitmapBytes(65)).isEqualTo(16);
    assertThat(MappedRamHeader.bitmapBytes(131072)).isEqualTo(16384);
  }

  @Test
  void valuesThatTheFormatCannotCarryAreBugs() {
    StreamEncoder out = new StreamEncoder();
    assertThatThrownBy(() -> out.ramTotal(4097)).isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(() -> out.record(new SectionFull(0, "", 0, 1)))
        .isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(() -> out.record(new SectionFull(0, "x".repeat(256), 0, 1)))
        .isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(() -> out.record(new Command(0x10000, 0)))
        .isInstanceOf(IllegalArgumentException.class);
  }
}
