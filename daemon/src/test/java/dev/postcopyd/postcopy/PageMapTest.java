package dev.postcopyd.postcopy;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Cells against a count page by page. */
class PageMapTest {
  private final RamBlockTable table = table();
  private final PostcopyMetrics metrics =
      new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT));
  private final EveryThirdZero handler = new EveryThirdZero();
  private final PostcopyEngine engine =
      new PostcopyEngine(table, handler, new PlacesAll(), new Ignores(), metrics);

  private static RamBlockTable table() {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    builder.add("pc.ram", 100_001 * 4096L, PageSize.SIZE_4K);
    builder.add("vga.vram", 70 * 4096L, PageSize.SIZE_4K);
    builder.add("huge", 133L << 21, PageSize.SIZE_2M);
    return builder.build();
  }

  @Test
  void aFreshLoadIsAllMissing() {
    for (PageMap.Block block : PageMap.of(engine, 100).blocks()) {
      for (PageMap.Cell cell : block.cells()) {
        assertThat(cell.missing()).isEqualTo(cell.pages()).isPositive();
      }
    }
  }

  @Test
  void everyPageIsCountedOnceAndInItsCell() {
    Random random = new Random(11);
    for (int i = 0; i < 3000; i++) {
      RamBlock block = table.blocks().get(random.nextInt(3));
      long page = block.firstPageIndex() + random.nextLong(block.pageCount());
      if (random.nextBoolean()) {
        handler.holdsBack = random.nextInt(4) == 0;
        engine.fault(block, page, 1, System.nanoTime());
        handler.holdsBack = false;
      } else {
        int claimed =
            engine.claims().tryClaimRun(page, (int) Math.min(block.endPageIndex() - page, 40));
        if (claimed > 0) {
          engine.load(block, page, claimed);
        }
      }
    }
    for (int cells : new int[] {3, 10, 300, 2048}) {
      assertRight(PageMap.of(engine, cells), cells);
    }
  }

  private void assertRight(PageMap map, int most) {
    assertThat(map.blocks()).hasSize(3);
    assertThat(map.blocks().stream().mapToInt(block -> block.cells().size()).sum())
        .isLessThanOrEqualTo(most);
    long found = 0;
    for (int b = 0; b < 3; b++) {
      RamBlock block = table.blocks().get(b);
      PageMap.Block shown = map.blocks().get(b);
      assertThat(shown.name()).isEqualTo(block.name());
      assertThat(shown.cells().stream().mapToLong(PageMap.Cell::pages).sum())
          .isEqualTo(block.pageCount());
      for (int c = 0; c < shown.cells().size(); c++) {
        long first = block.firstPageIndex() + c * shown.pagesPerCell();
        PageMap.Cell cell = shown.cells().get(c);
        assertThat(cell).isEqualTo(counted(first, first + cell.pages()));
        found += cell.pages() - cell.missing();
      }
    }
    long received = 0;
    for (RamBlock block : table.blocks()) {
      for (long page = block.firstPageIndex(); page < block.endPageIndex(); page++) {
        received += engine.received().isReceived(page) ? 1 : 0;
      }
    }
    assertThat(found).isEqualTo(received).isPositive();
  }

  private PageMap.Cell counted(long first, long end) {
    int onDemand = 0;
    int eager = 0;
    int zero = 0;
    int awaited = 0;
    for (long page = first; page < end; page++) {
      boolean asked = (engine.faultOrder().waitedFor((int) (page >>> 6)) & 1L << page) != 0;
      if (!engine.received().isReceived(page)) {
        awaited += asked ? 1 : 0;
      } else if (asked) {
        onDemand++;
      } else if (EveryThirdZero.isZero(page)) {
        zero++;
      } else {
        eager++;
      }
    }
    return new PageMap.Cell((int) (end - first), onDemand, eager, zero, awaited);
  }

  private static final class EveryThirdZero implements PostcopyPageHandler {
    boolean holdsBack;

    static boolean isZero(long page) {
      return page % 3 == 0;
    }

    @Override
    public void fetch(
        RamBlock block, long firstPageIndex, int pageCount, Urgency urgency, PageSink sink) {
      if (!holdsBack) {
        sink.data(block, firstPageIndex, pageCount, 0, urgency);
      }
    }

    @Override
    public long knownZeroPages(RamBlock block, long firstPageIndex) {
      long zero = 0;
      for (int i = 0; i < 64; i++) {
        zero |= isZero(firstPageIndex + i) ? 1L << i : 0;
      }
      return zero;
    }

    @Override
    public void close() {}
  }

  private static final class PlacesAll implements PagePlacer {
    @Override
    public PlaceResult placeData(
        RamBlock block, long firstPageIndex, int pageCount, long sourceAddress, Urgency urgency) {
      return PlaceResult.PLACED;
    }

    @Override
    public PlaceResult placeZero(
        RamBlock block, long firstPageIndex, int pageCount, Urgency urgency) {
      return PlaceResult.PLACED;
    }

    @Override
    public void wake(RamBlock block, long pageIndex) {}
  }

  private static final class Ignores implements EngineListener {
    @Override
    public void allPagesReceived() {}

    @Override
    public void loadFailed(String reason) {
      throw new AssertionError(reason);
    }
  }
}
