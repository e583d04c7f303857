package dev.postcopyd.postcopy.uffd;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.uffd.GuestSegments.Segment;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Where pages are after a guest has unmapped and moved parts of its memory. */
class GuestSegmentsTest {
  private static final long PAGE = 4096;

  private final RamBlockTable table = table();
  private final RamBlock low = table.blocks().get(0);
  private final RamBlock high = table.blocks().get(1);
  private final GuestSegments whole = GuestSegments.of(table, new long[] {100 * PAGE, 1000 * PAGE});

  private static RamBlockTable table() {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    builder.add("low", 10 * PAGE, PageSize.SIZE_4K);
    builder.add("high", 100 * PAGE, PageSize.SIZE_4K);
    return builder.build();
  }

  private static Segment segment(long startPage, long endPage, RamBlock block, long page) {
    return new Segment(startPage * PAGE, endPage * PAGE, block, block.firstPageIndex() + page);
  }

  @Test
  void inOnePiece() {
    assertThat(whole.at(100 * PAGE - 1)).isNull();
    assertThat(whole.at(100 * PAGE)).isEqualTo(segment(100, 110, low, 0));
    assertThat(whole.at(110 * PAGE - 1)).isNotNull();
    assertThat(whole.at(110 * PAGE)).isNull();
    assertThat(whole.at(-1)).isNull();
    Segment found = Objects.requireNonNull(whole.holding(high, high.firstPageIndex() + 7));
    assertThat(found.addressOf(high.firstPageIndex() + 7)).isEqualTo(1007 * PAGE);
    assertThat(found.pageIndexAt(1007 * PAGE + 5)).isEqualTo(high.firstPageIndex() + 7);
  }

  @Test
  void withAHoleInTheMiddle() {
    GuestSegments holed = whole.without(103 * PAGE, 105 * PAGE);
    assertThat(holed.all())
        .containsExactly(
            segment(100, 103, low, 0), segment(105, 110, low, 5), segment(1000, 1100, high, 0));
    assertThat(holed.at(104 * PAGE)).isNull();
    assertThat(holed.holding(low, low.firstPageIndex() + 4))
        .as("the next one, when the page itself is nowhere")
        .isEqualTo(segment(105, 110, low, 5));
    assertThat(holed.without(0, -1).all()).isEmpty();
  }

  @Test
  void movedOverAnother() {
    GuestSegments moved = whole.moved(100 * PAGE, 1050 * PAGE, 4 * PAGE);
    assertThat(moved.all())
        .containsExactlyInAnyOrder(
            segment(104, 110, low, 4),
            segment(1000, 1050, high, 0),
            segment(1050, 1054, low, 0),
            segment(1054, 1100, high, 54));
    assertThat(moved.moved(1050 * PAGE, 100 * PAGE, 4 * PAGE).at(101 * PAGE))
        .isEqualTo(segment(100, 104, low, 0));
  }

  /** Against a map from each page's address to the page. */
  @Test
  void asASimpleModelHasIt() {
    Random random = new Random(1);
    GuestSegments segments = whole;
    Map<Long, Long> model = new HashMap<>();
    for (long i = 0; i < 10; i++) {
      model.put(100 + i, low.firstPageIndex() + i);
    }
    for (long i = 0; i < 100; i++) {
      model.put(1000 + i, high.firstPageIndex() + i);
    }
    for (int step = 0; step < 500; step++) {
      long from = 95L + random.nextInt(1020);
      long length = 1L + random.nextInt(8);
      if (random.nextInt(10) == 0) {
        segments = segments.without(from * PAGE, (from + length) * PAGE);
        for (long page = from; page < from + length; page++) {
          model.remove(page);
        }
      } else {
        long to = 2000L + random.nextInt(300) * 10L;
        segments = segments.moved(from * PAGE, to * PAGE, length * PAGE);
        for (long page = 0; page < length; page++) {
          Long index = model.remove(from + page);
          model.remove(to + page);
          if (index != null) {
            model.put(to + page, index);
          }
        }
      }
    }
    Map<Long, Long> found = new HashMap<>();
    for (Segment segment : segments.all()) {
      for (long address = segment.start(); address < segment.end(); address += PAGE) {
        found.put(address / PAGE, segment.pageIndexAt(address));
        Segment held = segments.holding(segment.block(), segment.pageIndexAt(address));
        assertThat(held).isEqualTo(segment);
      }
    }
    assertThat(found).isEqualTo(model);
    assertThat(List.copyOf(model.values())).doesNotHaveDuplicates();
  }
}
