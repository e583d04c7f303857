package dev.postcopyd.postcopy;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import org.junit.jupiter.api.Test;

class ReceivedBitmapTest {
  @Test
  void countsOnlyWhatIsNew() {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    builder.add("ram", 200 * 4096L, PageSize.SIZE_4K);
    ReceivedBitmap received = new ReceivedBitmap(builder.build());
    assertThat(received.markReceived(60, 10)).isEqualTo(10);
    assertThat(received.markReceived(60, 10)).isZero();
    assertThat(received.markReceived(0, 200)).isEqualTo(190);
    assertThat(received.isReceived(199)).isTrue();
  }

  @Test
  void marksExactlyTheRun() {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    builder.add("ram", 200 * 4096L, PageSize.SIZE_4K);
    ReceivedBitmap received = new ReceivedBitmap(builder.build());
    int _ = received.markReceived(63, 66);
    for (int page = 0; page < 200; page++) {
      assertThat(received.isReceived(page)).as("page %d", page).isEqualTo(page >= 63 && page < 129);
    }
  }
}
