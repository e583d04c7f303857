package dev.postcopyd.incoming;

import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.StreamFormat;
import org.junit.jupiter.api.Test;

/** What a migration into memory can't be. */
class NetworkLimitsTest {
  private static RamBlockTable ram(long bytes) {
    RamBlockTable.Builder table = RamBlockTable.builder();
    table.add("ram", bytes, PageSize.SIZE_4K);
    return table.build();
  }

  @Test
  void bitmapsThatDoNotFitAreRefusedBeforeTheyAreMade() {
    assertThatCode(() -> NetworkLimits.requireHeap(ram(1L << 30))).doesNotThrowAnyException();
    assertThatThrownBy(() -> NetworkLimits.requireHeap(ram(StreamFormat.MAX_RAM_BYTES)))
        .hasMessageContaining("the page bitmaps need 12884901888 bytes")
        .hasMessageContaining("-Xmx");
  }

  @Test
  void postcopyNeedsTheCapabilityAndSmallPages() {
    assertThatThrownBy(() -> NetworkLimits.requirePostcopy(false))
        .hasMessageContaining("postcopy-ram, which is off here");
    assertThatCode(() -> NetworkLimits.requireBasePages(4096)).doesNotThrowAnyException();
    assertThatThrownBy(() -> NetworkLimits.requireBasePages(0x201000))
        .hasMessageContaining("other sizes than 4 KiB (0x201000)");
  }
}
