package dev.postcopyd.stream;

import static dev.postcopyd.stream.RecordedBytes.hex;
import static dev.postcopyd.stream.RecordedBytes.source;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.page.PageSize;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** What only a live stream has: commands, the short RAM list, page records. */
class PostcopyStreamTest {
  private static final List<PostcopyCommand> ALL =
      List.of(
          new PostcopyCommand.OpenReturnPath(),
          new PostcopyCommand.Ping(3),
          new PostcopyCommand.Advise(0x201000, 4096),
          new PostcopyCommand.Listen(),
          new PostcopyCommand.Run(),
          new PostcopyCommand.Discard(
              "pc.ram",
              List.of(
                  new PostcopyCommand.Range(0, 0x20000000),
                  new PostcopyCommand.Range(0x30000000, 4096))),
          new PostcopyCommand.Packaged(259_919),
          new PostcopyCommand.Resume(),
          new PostcopyCommand.SendReceivedBitmap("0000:00:02.0/vga.vram"));

  /** As they stand in streams of QEMU 10.0.2. */
  @Test
  void writesCommandsAsQemuDoes() {
    byte[] bytes =
        new StreamEncoder()
            .command(new PostcopyCommand.OpenReturnPath())
            .command(new PostcopyCommand.Ping(1))
            .command(new PostcopyCommand.Advise(0x1000, 0x1000))
            .command(
                new PostcopyCommand.Discard(
                    "pc.ram", List.of(new PostcopyCommand.Range(0, 0x20000000))))
            .command(new PostcopyCommand.Packaged(0x3f34f))
            .command(new PostcopyCommand.Listen())
            .command(new PostcopyCommand.Run())
            .toByteArray();
    assertThat(bytes)
        .isEqualTo(
            hex(
                """
                08 00 01 00 00
                08 00 02 00 04 00 00 00 01
                08 00 03 00 10 00 00 00 00 00 00 10 00 00 00 00 00 00 00 10 00
                08 00 06 00 19 00 06 70 63 2e 72 61 6d 00
                00 00 00 00 00 00 00 00 00 00 00 00 20 00 00 00
                08 00 07 00 04 00 03 f3 4f
                08 00 04 00 00
                08 00 05 00 00
                """));
  }

  @Test
  void writesTheHeadOfARecordedMigration() {
    StreamEncoder out =
        new StreamEncoder()
            .header()
            .record(new StreamRecord.Configuration("pc-i440fx-10.0", List.of()))
            .command(new PostcopyCommand.OpenReturnPath())
            .command(new PostcopyCommand.Ping(1))
            .command(new PostcopyCommand.Advise(4096, 4096))
            .record(new StreamRecord.SectionStart(1, "ram", 0, 4))
            .ramTotal(0xc082000L);
    for (Object[] block :
        new Object[][] {
          {"pc.ram", 192L << 20},
          {"/rom@etc/acpi/tables", 0x20000L},
          {"pc.bios", 0x40000L},
          {"pc.rom", 0x20000L},
          {"/rom@etc/table-loader", 0x1000L},
          {"/rom@etc/acpi/rsdp", 0x1000L}
        }) {
      out.ramBlock((String) block[0], (Long) block[1], PageSize.SIZE_4K);
    }
    assertThat(out.ramEnd().footer(1).toByteArray()).isEqualTo(RecordedBytes.POSTCOPY_HEAD);
  }

  @Test
  void readsWhatItWrites() throws Exception {
    StreamEncoder out = new StreamEncoder();
    ALL.forEach(out::command);
    StreamDecoder in = decoder(out.toByteArray());
    for (PostcopyCommand command : ALL) {
      StreamRecord.Command head = (StreamRecord.Command) in.next();
      assertThat(in.postcopyCommand(head)).isEqualTo(command);
    }
  }

  @Test
  void everyTruncationIsRefused() {
    for (PostcopyCommand command : ALL) {
      byte[] bytes = new StreamEncoder().command(command).toByteArray();
      for (int length = 1; length < bytes.length; length++) {
        byte[] cut = Arrays.copyOf(bytes, length);
        assertThatThrownBy(
                () -> {
                  StreamDecoder in = decoder(cut);
                  PostcopyCommand _ = in.postcopyCommand((StreamRecord.Command) in.next());
                })
            .as("%s cut to %d", command, length)
            .isInstanceOf(StreamFormatException.class);
      }
    }
  }

  @Test
  void refusesCommandsThatCannotBe() {
    refused("08 00 63 00 00", "command 99");
    refused("08 00 02 00 05 00 00 00 01 00", "length of 5 bytes instead of 4");
    refused("08 00 07 00 04 7f ff ff ff", "too large");
    refused("08 00 06 00 13 01 01 61 00" + " 00".repeat(16), "discard version 1");
    refused("08 00 06 00 13 00 01 61 01" + " 00".repeat(16), "does not end in a zero");
    refused("08 00 06 00 0b 00 01 61 00" + " 00".repeat(16), "length of 11 bytes instead of 20");
  }

  private static void refused(String bytes, String message) {
    assertThatThrownBy(
            () -> {
              StreamDecoder in = decoder(hex(bytes));
              PostcopyCommand _ = in.postcopyCommand((StreamRecord.Command) in.next());
            })
        .isInstanceOf(StreamFormatException.class)
        .hasMessageContaining(message);
  }

  @Test
  void theRamListNamesOnlyUnusualPageSizes() throws Exception {
    byte[] bytes =
        new StreamEncoder()
            .ramBlock("pc.ram", 512L << 20, PageSize.SIZE_2M)
            .ramBlock("pc.bios", 0x40000, PageSize.SIZE_4K)
            .toByteArray();
    assertThat(bytes)
        .isEqualTo(
            hex(
                """
                06 70 63 2e 72 61 6d 00 00 00 00 20 00 00 00 00 00 00 00 00 20 00 00
                07 70 63 2e 62 69 6f 73 00 00 00 00 00 04 00 00
                """));
    StreamDecoder in = decoder(bytes);
    assertThat(in.ramListEntry(true))
        .isEqualTo(new RamListEntry("pc.ram", 512L << 20, PageSize.SIZE_2M));
    assertThat(in.ramListEntry(false))
        .isEqualTo(new RamListEntry("pc.bios", 0x40000, PageSize.SIZE_4K));
  }

  @Test
  void pageRecordsNameTheBlockWhereItChanges() throws Exception {
    byte[] data = new byte[4096];
    byte[] bytes =
        new StreamEncoder()
            .pageRecord(new PageRecord("pc.ram", 0x1000, true), false)
            .pageRecord(new PageRecord("pc.ram", 0x2000, false), true)
            .bytes(data)
            .ramEnd()
            .toByteArray();
    assertThat(bytes)
        .startsWith(
            hex(
                """
                00 00 00 00 00 00 10 02 06 70 63 2e 72 61 6d 00
                00 00 00 00 00 00 20 28
                """));
    StreamInput input = new StreamInput(source(bytes), 0);
    StreamDecoder in = new StreamDecoder(input);
    assertThat(in.pageRecord(Optional.empty())).contains(new PageRecord("pc.ram", 0x1000, true));
    assertThat(in.pageRecord(Optional.of("pc.ram")))
        .contains(new PageRecord("pc.ram", 0x2000, false));
    input.seek(input.offsetBytes() + 4096);
    assertThat(in.pageRecord(Optional.of("pc.ram"))).isEmpty();
  }

  @Test
  void refusesPageRecordsThatCannotBe() {
    for (String word :
        List.of("00 00 00 00 00 00 10 00", "00 00 00 00 00 00 10 28", "00 00 00 00 00 00 10 0a")) {
      assertThatThrownBy(() -> decoder(hex(word + " 01 61 00")).pageRecord(Optional.empty()))
          .isInstanceOf(StreamFormatException.class)
          .hasMessageContaining("which is no page");
    }
    assertThatThrownBy(() -> new PageRecord("a", 17, false))
        .isInstanceOf(IllegalArgumentException.class);
  }

  private static StreamDecoder decoder(byte[] bytes) {
    return new StreamDecoder(new StreamInput(source(bytes), 0));
  }
}
