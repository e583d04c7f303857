package dev.postcopyd.postcopy;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import org.junit.jupiter.api.Test;

class FaultOrderTest {
  private static RamBlockTable table() {
    RamBlockTable.Builder table = RamBlockTable.builder();
    table.add("pc.ram", 1000 * 4096L, PageSize.SIZE_4K);
    table.add("huge", 6L << 21, PageSize.SIZE_2M);
    return table.build();
  }

  @Test
  void notesEachPageOnceInTheOrderOfFirstFaults() {
    FaultOrder order = FaultOrder.of(table(), 1 << 20);
    for (long page : new long[] {7, 3, 7, 1029, 0, 3, 999}) {
      order.note(page);
    }
    assertThat(order.pageIndices()).containsExactly(7, 3, 1029, 0, 999);
  }

  @Test
  void aFullOneKeepsTheFirst() {
    FaultOrder order = FaultOrder.of(table(), 3 * 4096);
    for (long page = 10; page < 20; page++) {
      order.note(page);
    }
    assertThat(order.pageIndices()).containsExactly(10, 11, 12);
  }

  @Test
  void offNotesNothing() {
    FaultOrder order = FaultOrder.off();
    order.note(5);
    assertThat(order.pageIndices()).isEmpty();
  }
}
