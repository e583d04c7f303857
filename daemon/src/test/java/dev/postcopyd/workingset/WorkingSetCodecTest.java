package dev.postcopyd.workingset;

import static dev.postcopyd.workingset.WorkingSets.IDENTITY;
import static dev.postcopyd.workingset.WorkingSets.ram;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

class WorkingSetCodecTest {
  @Test
  void roundTrip() throws IOException {
    assertSame(
        WorkingSetCodec.decode(WorkingSetCodec.encode(WorkingSets.usual())), WorkingSets.usual());
    WorkingSet empty = WorkingSet.empty(IDENTITY);
    assertThatThrownBy(() -> WorkingSetCodec.decode(WorkingSetCodec.encode(empty)))
        .as("no recording, no file")
        .hasMessageContaining("number of recordings is 0");
  }

  @Test
  void roundTripOfManyScatteredPages() throws IOException {
    long[] pages = LongStream.range(0, 1000).toArray();
    Random random = new Random(1);
    for (int i = pages.length - 1; i > 0; i--) {
      int other = random.nextInt(i + 1);
      long page = pages[i];
      pages[i] = pages[other];
      pages[other] = page;
    }
    WorkingSet set = new WorkingSet(IDENTITY, 1, ram(pages), List.of());
    byte[] file = WorkingSetCodec.encode(set);
    assertThat(file.length).as("about three bytes a page").isLessThan(3500);
    assertSame(WorkingSetCodec.decode(file), set);
  }

  /** Byte for byte what docs/reference/working-set.md describes. */
  @Test
  void everyByteIsWhereTheReferenceSays() {
    assertThat(HexFormat.of().formatHex(WorkingSetCodec.encode(WorkingSets.usual())))
        .isEqualTo(
            "8950435753"
                + "0d0a1a" // magic
                + "00000001" // version
                + "00000069" // length
                + "0123456789abcdef" // fingerprint
                + "03" // recordings
                + "0e"
                + "70632d6934343066782d31302e30" // machine type
                + "02" // blocks
                + "06"
                + "70632e72616d"
                + "8080fa01"
                + "0c"
                + "08"
                + "7667612e7672616d"
                + "808010"
                + "0c"
                + "07" // runs of the core
                + "04"
                + "e807" // 500 to 502
                + "00"
                + "df07" // 7
                + "00"
                + "03" // 6
                + "00"
                + "03" // 5
                + "01"
                + "01"
                + "7e" // vga.vram 63
                + "02"
                + "7f" // 0 and 1
                + "01"
                + "00"
                + "c20f" // pc.ram 999
                + "02" // sections
                + "03"
                + "02"
                + "01"
                + "01"
                + "24"
                + "03"
                + "00"
                + "bf0f"
                + "01"
                + "01"
                + "00"
                + "8c06"
                + checksumHex());
  }

  private static String checksumHex() {
    byte[] file = WorkingSetCodec.encode(WorkingSets.usual());
    return HexFormat.of().toHexDigits(WorkingSetCodec.checksum(file));
  }

  @Test
  void everyTruncationIsDetected() {
    byte[] file = WorkingSetCodec.encode(WorkingSets.usual());
    for (int length = 0; length < file.length; length++) {
      byte[] truncated = Arrays.copyOf(file, length);
      assertThatThrownBy(() -> WorkingSetCodec.decode(truncated))
          .as("%d of %d bytes", length, file.length)
          .isInstanceOf(StreamFormatException.class);
    }
    assertThatThrownBy(() -> WorkingSetCodec.decode(Arrays.copyOf(file, file.length + 1)))
        .isInstanceOf(StreamFormatException.class);
  }

  @Test
  void everyBitFlipIsDetected() {
    byte[] file = WorkingSetCodec.encode(WorkingSets.usual());
    for (int bit = 0; bit < file.length * 8; bit++) {
      byte[] flipped = file.clone();
      flipped[bit >>> 3] ^= (byte) (1 << (bit & 7));
      assertThatThrownBy(() -> WorkingSetCodec.decode(flipped))
          .as("bit %d", bit)
          .isInstanceOf(StreamFormatException.class);
    }
  }

  @Test
  void aNewerVersionIsToldFromDamage() {
    byte[] file = WorkingSetCodec.encode(WorkingSets.usual());
    WireWriter.putU32(file, WorkingSetCodec.VERSION_OFFSET, 2);
    assertThatThrownBy(() -> WorkingSetCodec.decode(sealed(file)))
        .isInstanceOf(NewerVersionException.class)
        .hasMessage("the working set has version 2, and this program knows version 1 only");
  }

  @Test
  void pagesThatCannotBeAreRefused() {
    assertRefused(
        new WorkingSet(IDENTITY, 1, ram(1000), List.of()),
        "1 pages from page 1000 on do not lie in block 'pc.ram' of 1000 pages");
    assertRefused(
        new WorkingSet(IDENTITY, 1, ram(5, 6, 5), List.of()),
        "page 5 of block 'pc.ram' is listed twice");
    assertRefused(
        new WorkingSet(IDENTITY, 1, ram(5), List.of(new WorkingSetSection(2, ram(6)))),
        "number of a recording is 2, and is to be from 1 to 1");
    assertRefused(
        new WorkingSet(
            IDENTITY,
            5,
            ram(5),
            List.of(new WorkingSetSection(3, ram(6)), new WorkingSetSection(3, ram(7)))),
        "number of a recording is 3, and is to be from 1 to 2");
  }

  private static void assertRefused(WorkingSet set, String problem) {
    assertThatThrownBy(() -> WorkingSetCodec.decode(WorkingSetCodec.encode(set)))
        .isInstanceOf(StreamFormatException.class)
        .hasMessageStartingWith(problem);
  }

  /** The file with length and checksum as they should be. */
  static byte[] sealed(byte[] file) {
    byte[] whole = file.clone();
    WireWriter.putU32(whole, WorkingSetCodec.LENGTH_OFFSET, whole.length);
    WireWriter.putU32(
        whole, whole.length - WorkingSetCodec.CHECKSUM_BYTES, WorkingSetCodec.checksum(whole));
    return whole;
  }

  static void assertSame(WorkingSet actual, WorkingSet expected) {
    assertThat(actual.identity()).isEqualTo(expected.identity());
    assertThat(actual.recordings()).isEqualTo(expected.recordings());
    assertThat(actual.core()).containsExactly(expected.core());
    assertThat(actual.others()).hasSameSizeAs(expected.others());
    for (int i = 0; i < expected.others().size(); i++) {
      assertThat(actual.others().get(i).recording())
          .isEqualTo(expected.others().get(i).recording());
      assertThat(actual.others().get(i).pageKeys())
          .containsExactly(expected.others().get(i).pageKeys());
    }
  }
}
