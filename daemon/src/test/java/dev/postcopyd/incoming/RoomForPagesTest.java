package dev.postcopyd.incoming;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.MemoryLimit;
import java.io.IOException;
import org.junit.jupiter.api.Test;

/** What a migration source may announce, and send. */
class RoomForPagesTest {
  private static final MemoryLimit LIMIT = new MemoryLimit(1L << 30, "a test");

  private static RamBlockTable ram(long bytes) {
    RamBlockTable.Builder table = RamBlockTable.builder();
    table.add("ram", bytes, PageSize.SIZE_4K);
    return table.build();
  }

  @Test
  void dataMayTakeWhatIsLeft() throws IOException {
    assertThat(RoomForPages.ofSource(ram(64L << 30), LIMIT, 256 << 20).pages())
        .isEqualTo((768 << 20) / 4096);
  }

  @Test
  void guestWhoseTablesAloneDoNotFitIsRefused() {
    assertThatThrownBy(() -> RoomForPages.ofSource(ram(1L << 40), LIMIT, 0))
        .isInstanceOf(IOException.class)
        .hasMessageContaining("1099511627776 bytes of RAM")
        .hasMessageContaining("(a test)")
        .hasMessageContaining("send a smaller guest");
  }
}
