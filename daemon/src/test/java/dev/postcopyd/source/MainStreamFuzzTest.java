package dev.postcopyd.source;

import static org.assertj.core.api.Assertions.assertThat;

import com.code_intelligence.jazzer.junit.FuzzTest;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.ChannelEndedException;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.util.Arrays;

/**
 * Whatever bytes a source sends, they are either taken as a migration that holds together, or
 * refused by name; nothing outside of the announced blocks is ever handed on ({@link
 * RecordingReceiver} insists on it).
 *
 * <p>The seeds, in the resources folder that is called like this class, were recorded from QEMU
 * 10.0.2 with a guest of 1 MiB and {@code suppress-vmdesc=on}: {@code precopy}, {@code background}
 * (snapshot), {@code bitmaps}, {@code virtio-mem}, and {@code precopy-json} of a microvm with its
 * vmdescription; the main channels and the others of {@code multifd} and of {@code multifd-old}
 * (pc-i440fx-8.0).
 */
class MainStreamFuzzTest {
  /** Also tries every way in which a page may be cut. */
  private static final int PIECE_BYTES = 4099;

  @FuzzTest(maxDuration = "40s")
  void mainChannelIsTakenOrRefused(byte[] stream) {
    RecordingReceiver receiver = new RecordingReceiver();
    try {
      byte[] _ = ReadStream.main(stream, PIECE_BYTES, receiver);
      assertThat(receiver.tail).isNotNull();
      assertThat(receiver.table).isNotNull();
    } catch (StreamFormatException e) {
      assertThat(e.offsetBytes()).isBetween(0L, stream.length + 1L);
    } catch (ChannelEndedException | RecordingReceiver.TooLargeException e) {
      assertThat(e).hasMessageNotContaining("\n");
    } catch (IOException e) {
      assertThat(e.getMessage()).containsAnyOf("no other channels", "the connection ended");
    }
  }

  @FuzzTest(maxDuration = "20s")
  void multifdChannelIsTakenOrRefused(byte[] stream) {
    RamBlockTable.Builder blocks = RamBlockTable.builder();
    blocks.add("pc.ram", 1 << 20, StreamFormat.TARGET_PAGE_SIZE);
    blocks.add("pc.bios", 1 << 16, StreamFormat.TARGET_PAGE_SIZE);
    RecordingReceiver receiver = new RecordingReceiver();
    try {
      int barriers = ReadStream.multifd(stream, PIECE_BYTES, blocks.build(), receiver);
      assertThat(barriers).isNotNegative();
    } catch (StreamFormatException e) {
      assertThat(e.offsetBytes()).isBetween(0L, stream.length + 2000L);
    } catch (IOException e) {
      assertThat(e).isInstanceOf(ChannelEndedException.class);
    }
  }

  /** A delta is applied whole, or refused; it never reaches beyond its page. */
  @FuzzTest(maxDuration = "10s")
  void deltaStaysWithinItsPage(byte[] delta) {
    java.nio.ByteBuffer page = java.nio.ByteBuffer.allocate(4096);
    byte[] ours = Arrays.copyOf(delta, Math.min(delta.length, 4096));
    boolean applied =
        dev.postcopyd.stream.XbzrleDelta.apply(
            java.nio.ByteBuffer.wrap(ours), 0, ours.length, page);
    assertThat(applied || ours.length > 0).isTrue();
  }
}
