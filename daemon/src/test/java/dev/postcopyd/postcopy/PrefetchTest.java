package dev.postcopyd.postcopy;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What comes first, and what must not displace it. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class PrefetchTest implements EngineListener {
  private final List<String> fetches = Collections.synchronizedList(new ArrayList<>());
  private final List<Urgency> urgencies = Collections.synchronizedList(new ArrayList<>());
  private final CountDownLatch complete = new CountDownLatch(1);
  private final PrometheusMeterRegistry registry =
      new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  private final PostcopyMetrics metrics = new PostcopyMetrics(registry);
  private final RamBlockTable table = table();
  private final RamBlock ram = table.blocks().getFirst();
  private final FaultOrder faultOrder = FaultOrder.of(table, 1 << 20);
  private final PostcopyEngine engine =
      new PostcopyEngine(table, new Zeros(), new Placer(), this, metrics, faultOrder);

  /** Block {@code b} begins right behind the last page of block {@code a}. */
  private static RamBlockTable table() {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    builder.add("a", 128 * 4096L, PageSize.SIZE_4K);
    builder.add("b", 70 * 4096L, PageSize.SIZE_4K);
    builder.add("huge", 4L << 21, PageSize.SIZE_2M);
    return builder.build();
  }

  @Override
  public void allPagesReceived() {
    complete.countDown();
  }

  @Override
  public void loadFailed(String reason) {
    throw new AssertionError(reason);
  }

  private final class Zeros implements PostcopyPageHandler {
    @Override
    public void fetch(RamBlock block, long first, int count, Urgency urgency, PageSink sink) {
      fetches.add(block.name() + " " + (first - block.firstPageIndex()) + "+" + count);
      urgencies.add(urgency);
      sink.zero(block, first, count, urgency);
    }

    @Override
    public void close() {}
  }

  private static final class Placer implements PagePlacer {
    @Override
    public PlaceResult placeData(
        RamBlock block, long first, int count, long sourceAddress, Urgency urgency) {
      return PlaceResult.PLACED;
    }

    @Override
    public PlaceResult placeZero(RamBlock block, long first, int count, Urgency urgency) {
      return PlaceResult.PLACED;
    }

    @Override
    public void wake(RamBlock block, long pageIndex) {}
  }

  private EagerLoader loader(int threads, long... order) {
    return new EagerLoader(engine, threads, EagerLoader.RUN_BYTES, "test", order);
  }

  private List<String> runsOf(long... order) {
    PrefetchCursor cursor = new PrefetchCursor(engine, order, EagerLoader.RUN_BYTES);
    ClaimCursor.Run run = new ClaimCursor.Run(ram);
    List<String> runs = new ArrayList<>();
    while (cursor.claimNext(run)) {
      runs.add(
          run.block.name()
              + " "
              + (run.firstPageIndex - run.block.firstPageIndex())
              + "+"
              + run.pageCount);
    }
    return runs;
  }

  @Test
  void theOrderIsKeptAndNeighboursComeAsOneRun() {
    assertThat(runsOf(50, 51, 52, 7, 6, 130, 131, 0))
        .containsExactly("a 50+3", "a 7+1", "a 6+1", "b 2+2", "a 0+1");
  }

  @Test
  void aRunEndsWithItsBlockAndAtTheLargestRun() {
    long[] all = new long[198];
    for (int i = 0; i < all.length; i++) {
      all[i] = i;
    }
    assertThat(runsOf(all)).containsExactly("a 0+64", "a 64+64", "b 0+64", "b 64+6");
    assertThat(runsOf(256, 257, 258)).as("of huge pages one at a time").hasSize(3);
  }

  @Test
  void pagesThatSomebodyHasClaimedAreLeftOut() {
    assertThat(engine.claims().tryClaim(51)).isTrue();
    assertThat(engine.claims().tryClaim(7)).isTrue();
    assertThat(runsOf(50, 51, 52, 53, 7, 6)).containsExactly("a 50+1", "a 52+2", "a 6+1");
    assertThat(runsOf(50, 51, 52, 53, 7, 6)).as("all are claimed now").isEmpty();
  }

  @Test
  void thePrefetchComesFirstWhateverFaults() throws InterruptedException {
    engine.fault(ram, 100, 1, System.nanoTime());
    fetches.clear();
    urgencies.clear();
    try (EagerLoader loader = loader(1, new long[] {60, 20, 21, 130})) {
      loader.start();
      assertThat(complete.await(10, TimeUnit.SECONDS)).isTrue();
    }
    assertThat(fetches)
        .as("the order, and then the run around the fault")
        .startsWith("a 60+1", "a 20+2", "b 2+1", "a 64+36", "a 101+27");
    assertThat(urgencies)
        .startsWith(Urgency.PREFETCH, Urgency.PREFETCH, Urgency.PREFETCH, Urgency.EAGER);
    assertThat(engine.progress().prefetchedPages()).isEqualTo(4);
    assertThat(registry.scrape()).contains("postcopyd_pages_prefetched_total 4.0");
  }

  @Test
  void thePrefetchMayComeLongBeforeTheRest() throws InterruptedException {
    try (EagerLoader loader = loader(2, new long[] {60, 20})) {
      loader.startPrefetch();
      while (engine.progress().zeroBytes() < 2 * 4096) {
        TimeUnit.MILLISECONDS.sleep(1);
      }
      TimeUnit.MILLISECONDS.sleep(20);
      assertThat(fetches).containsExactlyInAnyOrder("a 60+1", "a 20+1");
      loader.start();
      assertThat(complete.await(10, TimeUnit.SECONDS)).isTrue();
    }
  }

  @Test
  void closingBetweenTheTwoEndsTheThreads() {
    try (EagerLoader loader = loader(2, new long[] {60, 20})) {
      loader.startPrefetch();
    }
    assertThat(engine.isComplete()).isFalse();
    try (EagerLoader _ = new EagerLoader(engine, 1, "never-started")) {
      assertThat(complete.getCount()).isEqualTo(1);
    }
  }

  @Test
  void faultsAreNotedInOrderIfTheirPageIsNotThereYet() {
    assertThat(engine.claims().tryClaim(9)).as("a loader is at it").isTrue();
    engine.fault(ram, 30, 1, System.nanoTime());
    engine.fault(ram, 9, 1, System.nanoTime());
    engine.fault(ram, 9, 2, System.nanoTime());
    engine.fault(ram, 10, 1, System.nanoTime());
    engine.fault(ram, 30, 2, System.nanoTime());
    assertThat(faultOrder.pageIndices()).containsExactly(30, 9, 10);
  }
}
