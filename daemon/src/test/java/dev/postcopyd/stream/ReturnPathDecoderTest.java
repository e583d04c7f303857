package dev.postcopyd.stream;

import static dev.postcopyd.stream.RecordedBytes.hex;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The return path: recorded bytes, every split point, and what is refused. */
class ReturnPathDecoderTest {
  private static final List<ReturnPathMessage> SOME_OF_EACH =
      List.of(
          new ReturnPathMessage.Pong(1),
          new ReturnPathMessage.PageRequest("pc.ram", 0x1f000, 4096),
          new ReturnPathMessage.PageRequest("0000:00:02.0/vga.vram", 0xfff_f000L, 2 << 20),
          new ReturnPathMessage.ReceivedPages("pc.ram", new long[] {1, -1L, 1L << 63}),
          new ReturnPathMessage.ResumeAck(1),
          new ReturnPathMessage.SwitchoverAck(),
          new ReturnPathMessage.Shut(0));

  @Test
  void decodesWhatQemuSaid() throws Exception {
    assertThat(decode(RecordedBytes.RETURN_PATH, RecordedBytes.RETURN_PATH.length))
        .containsExactly(
            new ReturnPathMessage.Pong(1),
            new ReturnPathMessage.Pong(2),
            new ReturnPathMessage.Pong(4),
            new ReturnPathMessage.Pong(3),
            new ReturnPathMessage.PageRequest("pc.ram", 0x2a4a000, 4096),
            new ReturnPathMessage.PageRequest("pc.ram", 0xbf4d000, 4096),
            new ReturnPathMessage.PageRequest("pc.ram", 0xbeeb000, 4096),
            new ReturnPathMessage.PageRequest("pc.ram", 0xbeea000, 4096),
            new ReturnPathMessage.Shut(0));
  }

  @Test
  void decodesWhatIsEncodedAtEverySplitPoint() throws Exception {
    StreamEncoder out = new StreamEncoder();
    SOME_OF_EACH.forEach(message -> message.encode(out));
    byte[] bytes = out.toByteArray();
    for (int chunk = 1; chunk <= bytes.length; chunk++) {
      assertThat(decode(bytes, chunk))
          .as("chunks of %d", chunk)
          .usingRecursiveComparison()
          .isEqualTo(SOME_OF_EACH);
    }
  }

  @Test
  void aRequestWithoutBlockIsForTheOneBefore() throws Exception {
    assertThat(
            decode(
                hex(
                    """
                    00 03 00 13 00 00 00 00 00 00 20 00 00 00 10 00 06 70 63 2e 72 61 6d
                    00 04 00 0c 00 00 00 00 00 00 30 00 00 00 10 00
                    """),
                1))
        .containsExactly(
            new ReturnPathMessage.PageRequest("pc.ram", 0x2000, 4096),
            new ReturnPathMessage.PageRequest("pc.ram", 0x3000, 4096));
  }

  @Test
  void refusesWithTheOffset() {
    refused("00 63 00 00", "unknown message type 99", 0);
    refused("00 01 00 04 00 00 00 00 00 09 00 00", "unknown message type 9", 8);
    refused("00 02 00 08 00 00 00 00", "length of 8", 2);
    refused("00 04 00 0c 00 00 00 00 00 00 30 00 00 00 10 00", "names no block", 0);
    refused("00 03 00 0d 00 00 00 00 00 00 00 00 00 00 10 00 00", "length of 13", 2);
    refused("00 03 00 0e 00 00 00 00 00 00 00 01 00 00 10 00 01 61", "not for whole pages", 4);
    refused("00 03 00 0e 00 00 00 00 00 00 00 00 00 00 00 00 01 61", "not for whole pages", 4);
    refused("00 03 00 0e ff ff ff ff ff ff f0 00 00 00 10 00 01 61", "not for whole pages", 4);
    refused("00 03 00 0e 00 00 00 00 00 00 10 00 00 00 10 00 02 61", "room for another", 0);
    refused("00 03 00 0e 00 00 00 00 00 00 10 00 00 00 10 00 01 07", "byte 0x7", 0);
    refused("00 05 00 02 01 61 00 00 00 00 00 01 00 00", "has 65536 bytes", 6);
    refused("00 05 00 02 01 61 ff ff ff ff ff ff ff f8", "bitmap of block a", 6);
    refused(
        "00 05 00 02 01 61 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00 00 01 23 45 67 89 ab cd ee",
        "ends in 0x123456789abcdee",
        22);
  }

  private static void refused(String bytes, String message, long offset) {
    for (int chunk : new int[] {1, 1000}) {
      assertThatThrownBy(() -> decode(hex(bytes), chunk))
          .isInstanceOfSatisfying(
              StreamFormatException.class, e -> assertThat(e.offsetBytes()).isEqualTo(offset))
          .hasMessageContaining(message);
    }
  }

  private static List<ReturnPathMessage> decode(byte[] bytes, int chunk)
      throws StreamFormatException {
    List<ReturnPathMessage> messages = new ArrayList<>();
    ReturnPathDecoder decoder = new ReturnPathDecoder(32 << 10);
    ReturnPathDecoder.Receiver receiver =
        new ReturnPathDecoder.Receiver() {
          @Override
          public void pagesRequested(String blockName, long startBytes, long lengthBytes) {
            messages.add(new ReturnPathMessage.PageRequest(blockName, startBytes, lengthBytes));
          }

          @Override
          public void message(ReturnPathMessage message) {
            messages.add(message);
          }
        };
    for (int from = 0; from < bytes.length; from += chunk) {
      byte[] part = Arrays.copyOfRange(bytes, from, Math.min(bytes.length, from + chunk));
      decoder.decode(MemorySegment.ofArray(part), part.length, receiver);
    }
    assertThat(decoder.isBetweenMessages()).isTrue();
    return messages;
  }
}
