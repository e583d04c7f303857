package dev.postcopyd.postcopy.network;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.MemoryMapping;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Pages that come before the guest is switched over, into real memory. */
class PrecopyMemoryIT {
  private static final int PAGES = 64;

  /** A page that comes again takes no more memory; one that becomes zero gives it back. */
  @Test
  void dataHasALimitAndRoundsDoNot() throws IOException {
    RamBlockTable.Builder blocks = RamBlockTable.builder();
    RamBlock block = blocks.add("ram", PAGES * 4096L, PageSize.SIZE_4K);
    Arrivals arrivals = new Arrivals(blocks.build(), new DataLimit(8, "there is no more"));
    try (MemoryMapping memory = MemoryMapping.anonymous(PAGES * 4096L);
        Arena arena = Arena.ofConfined()) {
      PrecopyMemory precopy = new PrecopyMemory(arrivals, List.of(memory), true);
      long bytes = arena.allocate(8 * 4096).fill((byte) 7).address();
      for (int round = 0; round < 10; round++) {
        precopy.data(block, 0, 8, bytes, 4096);
      }
      precopy.zero(block, 0, 4);
      precopy.data(block, 16 * 4096, 4, bytes, 4096);
      precopy.data(block, 32 * 4096, 1, bytes, 4096);
      assertThatThrownBy(() -> precopy.data(block, 33 * 4096, 1, bytes, 4096))
          .isInstanceOf(IOException.class)
          .hasMessageContaining("9 pages with data, and there is no more");
      assertThat(precopy.holdsData(33)).isFalse();
    }
  }
}
