package dev.postcopyd.source;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.sink.GoldenStreams;
import dev.postcopyd.stream.ChannelEndedException;
import dev.postcopyd.stream.StreamFormatException;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Objects;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Streams that QEMU 10.0.2 has sent, and what somebody else might send instead. */
class MainStreamTest {
  private static byte[] recorded(String name) throws IOException {
    try (InputStream in =
        MainStreamTest.class.getResourceAsStream(
            "MainStreamFuzzTestInputs/mainChannelIsTakenOrRefused/" + name)) {
      return Objects.requireNonNull(in, name).readAllBytes();
    }
  }

  private static RecordingReceiver read(byte[] bytes, int pieceBytes) throws IOException {
    RecordingReceiver receiver = new RecordingReceiver();
    byte[] _ = ReadStream.main(bytes, pieceBytes, receiver);
    return receiver;
  }

  /** The machine has 1 MiB (or 2) of RAM, its firmware, and little else; each page came once. */
  @ParameterizedTest
  @CsvSource({
    "precopy, pc-i440fx-10.0, pc.ram, 256",
    "background, pc-i440fx-10.0, pc.ram, 256",
    "precopy-json, microvm, microvm.ram, 512",
    "bitmaps, microvm, microvm.ram, 512",
    "virtio-mem, pc-q35-10.0, pc.ram, 1024"
  })
  void everythingOfARecordedStreamArrives(String name, String machine, String block, int pages)
      throws IOException {
    RecordingReceiver receiver = read(recorded(name), 1 << 20);
    assertThat(Objects.requireNonNull(receiver.configuration).machineType()).isEqualTo(machine);
    RamBlockTable table = Objects.requireNonNull(receiver.table);
    assertThat(Objects.requireNonNull(table.byName(block)).pageCount()).isEqualTo(pages);
    assertThat(Objects.requireNonNull(receiver.pages.get(block))).hasSize(pages);
    byte[] tail = Objects.requireNonNull(receiver.tail);
    assertThat(tail[0]).isEqualTo((byte) 4);
    byte[] stream = recorded(name);
    assertThat(Arrays.copyOfRange(stream, stream.length - tail.length, stream.length))
        .isEqualTo(tail);
  }

  /** Wherever the network cuts a stream into pieces, it is the same stream. */
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 7, 8, 9, 13, 4095, 4096, 4097, 4104, 4105, 65536})
  void piecesMakeNoDifference(int pieceBytes) throws IOException {
    for (String name : new String[] {"precopy", "precopy-json", "bitmaps", "virtio-mem"}) {
      RecordingReceiver whole = read(recorded(name), 1 << 20);
      RecordingReceiver pieces = read(recorded(name), pieceBytes);
      assertThat(pieces.contents()).isEqualTo(whole.contents());
      assertThat(pieces.tail).isEqualTo(whole.tail);
      assertThat(pieces.kept.toByteArray()).isEqualTo(whole.kept.toByteArray());
    }
  }

  @Test
  void dirtyBitmapsAndEarlyDevicesAreKept() throws IOException {
    assertThat(
            new String(
                read(recorded("bitmaps"), 4096).kept.toByteArray(), StandardCharsets.US_ASCII))
        .contains("disk0");
    assertThat(
            new String(
                read(recorded("virtio-mem"), 4096).kept.toByteArray(), StandardCharsets.US_ASCII))
        .contains("/virtio-mem-device-early");
  }

  /** Cut anywhere, a stream has not ended: nothing of it may be taken for a snapshot. */
  @Test
  void streamThatIsCutHasNotEnded() throws IOException {
    byte[] stream = recorded("precopy-json");
    for (int length = 0; length < stream.length; length += length < 600 ? 1 : 397) {
      byte[] cut = Arrays.copyOf(stream, length);
      RecordingReceiver receiver = new RecordingReceiver();
      assertThatThrownBy(() -> ReadStream.main(cut, 4096, receiver))
          .as("%d bytes", length)
          .isInstanceOf(IOException.class);
      assertThat(receiver.tail).isNull();
    }
  }

  /** Builds what no QEMU would send. */
  private static final class Words {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private final DataOutputStream out = new DataOutputStream(bytes);

    static Words machine() throws IOException {
      Words words = new Words();
      words.out.writeInt(0x5145564d);
      words.out.writeInt(3);
      words.out.writeByte(7);
      words.out.writeInt(2);
      words.out.writeBytes("pc");
      return words;
    }

    Words command(int id, byte... payload) throws IOException {
      out.writeByte(8);
      out.writeShort(id);
      out.writeShort(payload.length);
      out.write(payload);
      return this;
    }

    Words ramOf(long total, String name, long length) throws IOException {
      section(1, 2, "ram", 4);
      out.writeLong(total | 4);
      name(name);
      out.writeLong(length);
      return this;
    }

    Words section(int type, int id, String name, int version) throws IOException {
      out.writeByte(type);
      out.writeInt(id);
      name(name);
      out.writeInt(0);
      out.writeInt(version);
      return this;
    }

    Words part(int type, int id) throws IOException {
      out.writeByte(type);
      out.writeInt(id);
      return this;
    }

    Words name(String name) throws IOException {
      out.writeByte(name.length());
      out.writeBytes(name);
      return this;
    }

    Words word(long word) throws IOException {
      out.writeLong(word);
      return this;
    }

    Words end(int id) throws IOException {
      out.writeLong(0x10);
      out.writeByte(0x7e);
      out.writeInt(id);
      return this;
    }

    Words page(int count) throws IOException {
      out.write(new byte[count]);
      return this;
    }

    void refused(String message) {
      assertThatThrownBy(() -> read(bytes.toByteArray(), 4096))
          .isInstanceOf(StreamFormatException.class)
          .hasMessageContaining(message)
          .hasMessageContaining("at byte offset");
    }

    /** Nothing is wrong so far. */
    void goesOn() {
      assertThatThrownBy(() -> read(bytes.toByteArray(), 4096))
          .isInstanceOf(ChannelEndedException.class);
    }
  }

  private static Words started() throws IOException {
    return Words.machine().ramOf(0x2000, "r", 0x2000).end(2);
  }

  @Test
  void ramListsThatCannotBeAreRefused() throws IOException {
    Words.machine().ramOf(0x2000, "r", 0x2000).goesOn();
    Words.machine().ramOf(0x2000, "r", 0x3000).refused("does not fit");
    Words.machine().ramOf(0x2000, "r", 0).refused("does not fit");
    Words.machine().ramOf(0x2000, "r", 0x801).refused("does not fit");
    Words.machine().ramOf(1L << 50, "r", 1L << 50).refused("is not possible");
    Words.machine().ramOf(-0x1000L, "r", 0x2000).refused("is not possible");
    Words.machine().ramOf(0x4000, "r", 0x2000).name("r").word(0x2000).refused("'r' of 8192");
    Words many = Words.machine().ramOf(0x1000L * 4097, "r", 0x1000);
    for (int i = 0; i < 4096; i++) {
      many.name("r" + i).word(0x1000);
    }
    many.refused("'r4095' of 4096 bytes does not fit");
    Words.machine().section(1, 2, "ram", 3).refused("is not supported");
    started().section(1, 3, "ram", 4).refused("is not supported");
    started().section(1, 2, "other", 1).refused("where it can't be");
    started().section(1, 3, "vfio", 1).refused("section 'vfio' is saved in parts");
  }

  @Test
  void pagesThatCannotBeAreRefused() throws IOException {
    started().part(2, 2).word(0x1008).name("r").page(4096).word(0x1022).page(1).goesOn();
    started().part(2, 2).word(0x2008).name("r").page(4096).refused("has only 0x2000 bytes");
    started().part(2, 2).word(-0x1000L | 8).name("r").page(4096).refused("has only 0x2000 bytes");
    started().part(2, 2).word(0x1008).name("q").page(4096).refused("names the block 'q'");
    started().part(2, 2).word(0x1028).page(4096).refused("there is no block before it");
    started()
        .part(2, 2)
        .word(0x1002)
        .name("r")
        .page(1)
        .word(0x22)
        .name("x")
        .refused("filled with 1");
    started().part(2, 2).word(0x100c).name("r").refused("which is no page");
    started().part(2, 2).word(0x1080).refused("RDMA");
    started().part(2, 2).word(0x1108).refused("which is no page");
    started().part(2, 2).word(0x1100).refused("a compressed page");
    started().part(2, 2).word(0x1040).name("r").word(0x0210000000000000L).refused("encoding 2");
    started().part(2, 2).word(0x1040).name("r").word(0x0110010000000000L).refused("4097 bytes");
    started().part(2, 9).refused("section 9 has not been started");
    started().part(3, 2).end(2).part(2, 2).refused("or has ended");
    Words.machine().part(2, 2).refused("section 2 has not been started");
    started().part(2, 2).end(3).refused("footer of section 3");
  }

  @Test
  void commandsWhereTheyCannotBeAreRefused() throws IOException {
    byte[] advise = {0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0};
    byte[] discard = {0, 1, 'r', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0};
    Words.machine()
        .command(1)
        .command(3, advise)
        .ramOf(0x2000, "r", 0x2000)
        .end(2)
        .command(6, discard)
        .goesOn();
    for (byte[] beyond :
        new byte[][] {
          {0, 1, 'r', 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0},
          {0, 1, 'r', 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0x10, 0},
          {0, 1, 'r', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
          {0, 1, 'r', 0, -1, -1, -1, -1, -1, -1, -16, 0, 0, 0, 0, 0, 0, 0, 0x10, 0}
        }) {
      Words.machine()
          .command(1)
          .command(3, advise)
          .ramOf(0x2000, "r", 0x2000)
          .end(2)
          .command(6, beyond)
          .refused("of block 'r', which has 0x2000 bytes");
    }
    started().command(3, advise).refused("too late");
    started().command(6, discard).refused("RAM_DISCARD without postcopy");
    started().command(4).refused("outside of a package");
    started().command(5).refused("outside of a package");
    started().command(8).refused("COLO");
    started().command(9).refused("POSTCOPY_RESUME stands before");
    started().command(10, (byte) 1, (byte) 'r').refused("RECV_BITMAP stands before");
    started().command(12).refused("command 12");
    started().command(2, (byte) 0).page(4).refused("command 2");
    started()
        .command(7, (byte) 0, (byte) 0, (byte) 0, (byte) 9)
        .refused("package without postcopy");
    started().command(7, (byte) 0xff, (byte) 0xff, (byte) 0xff, (byte) 0xff).refused("too large");
    started().part(0, 0).refused("ends without device state");
    Words.machine().section(4, 7, "early", 1).goesOn();
  }

  /** A source that has gone before it was answered has sent its guest all the same. */
  @Test
  void whatWasSentCountsAlsoIfNobodyHearsTheAnswer() throws IOException {
    RecordingReceiver receiver = new RecordingReceiver();
    ReadStream.main(
        GoldenStreams.postcopy(),
        4099,
        receiver,
        _ -> {
          throw new IOException("gone");
        });
    assertThat(receiver.devices).isNotNull();
  }

  @Test
  void multifdChannelsHandOnTheSamePages() throws IOException {
    try (InputStream in =
        getClass()
            .getResourceAsStream(
                "MainStreamFuzzTestInputs/multifdChannelIsTakenOrRefused/multifd")) {
      byte[] bytes = Objects.requireNonNull(in).readAllBytes();
      RecordingReceiver main = new RecordingReceiver();
      assertThatThrownBy(() -> ReadStream.main(recorded("multifd"), 4096, main))
          .hasMessageContaining("no other channels");
      for (int piece : new int[] {1, 63, 64, 1343, 1344, 4096, 1 << 20}) {
        RecordingReceiver receiver = new RecordingReceiver();
        int barriers =
            ReadStream.multifd(bytes, piece, Objects.requireNonNull(main.table), receiver);
        assertThat(barriers).isPositive();
        assertThat(receiver.pages.values().stream().mapToInt(of -> of.size()).sum())
            .isEqualTo((int) main.table.totalPages());
      }
    }
  }
}
