package dev.postcopyd.sink;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.page.PageSet;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.OpaqueTail;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.XbzrleDelta;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

/** Pages that have come, and deltas. */
class SinkPartsTest {
  @Test
  void pagesAreCountedOnceAndForgotten() {
    RamBlockTable.Builder blocks = RamBlockTable.builder();
    blocks.add("a", 100 * 4096, PageSize.SIZE_4K);
    RamBlock second = blocks.add("b", 70 * 4096, PageSize.SIZE_4K);
    PageSet arrived = new PageSet(blocks.build());
    arrived.add(second.firstPageIndex() + 60, 8);
    arrived.add(second.firstPageIndex() + 62, 8);
    assertThat(arrived.count()).isEqualTo(10);
    long[] words = arrived.of(second);
    assertThat(words).hasSize(2);
    assertThat(words[0]).isEqualTo(0xf000000000000000L);
    assertThat(words[1]).isEqualTo(0x3fL);
    arrived.remove(second.firstPageIndex() + 61, 70 - 61);
    assertThat(arrived.count()).isEqualTo(1);
    assertThat(arrived.of(second)).containsExactly(0x1000000000000000L, 0);
  }

  /** Whoever sends without end is stopped at the bound, and not by the heap. */
  @Test
  void endlessTailIsRefused() throws IOException {
    OpaqueTail tail = new OpaqueTail(100_000);
    byte[] piece = new byte[9_999];
    for (int i = 0; i < 10; i++) {
      tail.append(piece);
    }
    assertThatThrownBy(() -> tail.append(piece))
        .isInstanceOf(StreamFormatException.class)
        .hasMessageContaining("more than 100000 bytes is too large");
  }

  @Test
  void deltasChangeWhatTheySay() {
    ByteBuffer page = ByteBuffer.allocate(4096);
    Arrays.fill(page.array(), (byte) 7);
    // 130 bytes stay, 2 follow; 0x7f stay, 1 follows.
    byte[] delta = {(byte) 0x82, 1, 2, 'x', 'y', 0x7f, 1, 'z'};
    assertThat(XbzrleDelta.apply(ByteBuffer.wrap(delta), 0, delta.length, page)).isTrue();
    byte[] expected = new byte[4096];
    Arrays.fill(expected, (byte) 7);
    expected[130] = 'x';
    expected[131] = 'y';
    expected[132 + 127] = 'z';
    assertThat(page.array()).isEqualTo(expected);
  }

  @Test
  void deltasThatCannotBeAreRefused() {
    refused(1); // nothing follows
    refused(1, 0); // a literal of no length
    refused(1, 3, 'a'); // cut
    refused(0x80); // half a length
    refused(0x80, 0x80, 1, 'a'); // a length of three bytes
    refused(0, 1, 'a', 0, 1, 'b'); // nothing stays in the middle
    refused(0xff, 0x1f, 2, 'a', 'b'); // beyond the page
    refused(0x80, 0x21, 1, 'a'); // far beyond it
  }

  private static void refused(int... bytes) {
    ByteBuffer delta = ByteBuffer.allocate(bytes.length);
    for (int value : bytes) {
      delta.put((byte) value);
    }
    assertThat(XbzrleDelta.apply(delta, 0, bytes.length, ByteBuffer.allocate(4096)))
        .as(Arrays.toString(bytes))
        .isFalse();
  }
}
