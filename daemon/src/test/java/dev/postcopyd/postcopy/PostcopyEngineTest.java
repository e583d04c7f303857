package dev.postcopyd.postcopy;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

class PostcopyEngineTest {
  private final RamBlockTable table = table();
  private final RamBlock ram = table.blocks().getFirst();
  private final RecordingHandler handler = new RecordingHandler();
  private final RecordingPlacer placer = new RecordingPlacer();
  private final RecordingListener listener = new RecordingListener();
  private final PostcopyMetrics metrics =
      new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT));
  private final PostcopyEngine engine =
      new PostcopyEngine(table, handler, placer, listener, metrics);

  private static RamBlockTable table() {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    builder.add("pc.ram", 1000 * 4096L, PageSize.SIZE_4K);
    builder.add("vga.vram", 70 * 4096L, PageSize.SIZE_4K);
    builder.add("huge", 6L << 21, PageSize.SIZE_2M);
    return builder.build();
  }

  @Test
  void aFaultIsFetchedPlacedAndThenReceived() {
    engine.fault(ram, 5, 1, System.nanoTime());
    assertThat(handler.fetches).containsExactly("pc.ram 5+1 FAULT");
    assertThat(placer.placements.get(5)).isEqualTo(1);
    assertThat(engine.received().isReceived(5)).isTrue();
    assertThat(engine.hasOutstandingFaults()).isFalse();
    assertThat(engine.blocktime().faults()).isEqualTo(1);
    assertThat(engine.progress().dataBytes()).isEqualTo(4096);
  }

  @Test
  void aFaultOnAPageThatIsThereIsOnlyWoken() {
    engine.fault(ram, 5, 1, System.nanoTime());
    engine.fault(ram, 5, 2, System.nanoTime());
    assertThat(handler.fetches).hasSize(1);
    assertThat(placer.wakes).containsExactly(5L);
    assertThat(engine.progress().faults()).isEqualTo(1);
  }

  @Test
  void aFaultOnAPageThatALoaderFetchesWaitsForThatFetch() {
    handler.hold = true;
    assertThat(engine.claims().tryClaimRun(0, 64)).isEqualTo(64);
    engine.load(ram, 0, 64);
    engine.fault(ram, 10, 7, System.nanoTime());
    assertThat(handler.fetches).containsExactly("pc.ram 0+64 EAGER");
    assertThat(engine.hasOutstandingFaults()).isTrue();
    handler.deliverHeld();
    assertThat(engine.hasOutstandingFaults()).isFalse();
    assertThat(engine.blocktime().threads())
        .singleElement()
        .satisfies(thread -> {
          assertThat(thread.threadId()).isEqualTo(7);
          assertThat(thread.faults()).isEqualTo(1);
        });
    assertThat(placer.placements.get(10)).isEqualTo(1);
  }

  @Test
  void aFailedFetchGivesItsClaimBackAndFailsTheLoadOnce() {
    handler.failAt = 20;
    engine.fault(ram, 20, 1, System.nanoTime());
    engine.fault(ram, 21, 2, System.nanoTime());
    assertThat(listener.failures).containsExactly("/snap: offset 81920: EIO");
    assertThat(engine.received().isReceived(20)).isFalse();
    assertThat(engine.claims().tryClaim(20)).as("claim was released").isTrue();
    assertThat(handler.fetches).as("nothing is fetched after the failure").hasSize(1);
  }

  @Test
  void aRefusedPlacementFailsTheLoadAndKeepsWhatWasPlaced() {
    placer.refuseAfter = 3;
    assertThat(engine.claims().tryClaimRun(0, 10)).isEqualTo(10);
    engine.load(ram, 0, 10);
    assertThat(listener.failures).containsExactly("no memory");
    assertThat(engine.received().isReceived(2)).isTrue();
    assertThat(engine.received().isReceived(3)).isFalse();
    assertThat(engine.claims().tryClaimRun(3, 10)).isEqualTo(10);
  }

  @Test
  void theLoaderBringsInEveryPageOfEveryBlockOnce() throws InterruptedException {
    try (EagerLoader loader = new EagerLoader(engine, 2, "test")) {
      loader.start();
      assertThat(listener.complete.await(10, TimeUnit.SECONDS)).isTrue();
    }
    assertEveryPagePlacedOnce();
    assertThat(engine.progress().dataBytes() + engine.progress().zeroBytes())
        .isEqualTo(table.totalBytes());
  }

  @Test
  void faultsAndLoadersTogetherPlaceEveryPageOnce() throws InterruptedException {
    for (int round = 0; round < 50; round++) {
      PostcopyEngineTest fresh = new PostcopyEngineTest();
      Thread faults =
          Thread.ofPlatform()
              .start(() -> {
                Random random = new Random(3);
                for (int i = 0; i < 2000; i++) {
                  RamBlock block = fresh.table.blocks().get(random.nextInt(3));
                  long page = block.firstPageIndex() + random.nextLong(block.pageCount());
                  fresh.engine.fault(block, page, 1 + random.nextInt(4), System.nanoTime());
                }
              });
      try (EagerLoader loader = new EagerLoader(fresh.engine, 2, "test")) {
        loader.start();
        assertThat(fresh.listener.complete.await(10, TimeUnit.SECONDS)).isTrue();
        faults.join();
      }
      fresh.assertEveryPagePlacedOnce();
      assertThat(fresh.engine.hasOutstandingFaults()).isFalse();
      assertThat(fresh.listener.failures).isEmpty();
    }
  }

  @Test
  void eachLoaderThreadKeepsToTwoMebibytesOfItsOwn() {
    ClaimCursor cursor = new ClaimCursor(engine, EagerLoader.RUN_BYTES);
    ClaimCursor.Run one = new ClaimCursor.Run(ram);
    ClaimCursor.Run other = new ClaimCursor.Run(ram);
    for (int i = 0; i < 8; i++) {
      assertThat(cursor.claimNext(one)).isTrue();
      assertThat(one.firstPageIndex).isEqualTo(i * 64L);
      assertThat(cursor.claimNext(other)).isTrue();
      assertThat(other.firstPageIndex).isEqualTo(512 + i * 64L);
    }
    assertThat(cursor.claimNext(one)).isTrue();
    assertThat(one.firstPageIndex).isEqualTo(table.blocks().get(1).firstPageIndex());
  }

  @Test
  void whatALoaderThreadHasLeftOfItsAreaIsNotForgotten() {
    ClaimCursor cursor = new ClaimCursor(engine, EagerLoader.RUN_BYTES);
    ClaimCursor.Run gone = new ClaimCursor.Run(ram);
    assertThat(cursor.claimNext(gone)).isTrue();
    ClaimCursor.Run run = new ClaimCursor.Run(ram);
    long claimed = gone.pageCount;
    while (cursor.claimNext(run)) {
      claimed += run.pageCount;
    }
    assertThat(claimed).isEqualTo(table.totalPages());
  }

  @Test
  void theLoaderGoesOnAroundTheLastFault() {
    engine.fault(ram, 500, 1, System.nanoTime());
    ClaimCursor cursor = new ClaimCursor(engine, EagerLoader.RUN_BYTES);
    ClaimCursor.Run run = new ClaimCursor.Run(ram);
    assertThat(cursor.claimNext(run)).isTrue();
    assertThat(run.firstPageIndex).as("a boundary of 64 pages").isEqualTo(448);
    assertThat(run.pageCount).as("up to the fault").isEqualTo(52);
    assertThat(cursor.claimNext(run)).isTrue();
    assertThat(run.firstPageIndex).isEqualTo(501);
    assertThat(run.pageCount).as("up to the next boundary of 64 pages").isEqualTo(11);
    assertThat(cursor.claimNext(run)).isTrue();
    assertThat(run.firstPageIndex).isEqualTo(512);
    assertThat(run.pageCount).isEqualTo(64);
  }

  @Test
  void aHandlerThatFailsByABugFailsTheLoad() throws InterruptedException {
    handler.bug = true;
    CountDownLatch served = new CountDownLatch(1);
    FaultSource source =
        new FaultSource() {
          @Override
          public void serve(FaultSink sink) {
            served.countDown();
            sink.fault(ram, 1, 1, System.nanoTime());
          }

          @Override
          public void stop() {}
        };
    try (FaultThread thread = new FaultThread(source, engine, "test")) {
      thread.start();
      assertThat(served.await(10, TimeUnit.SECONDS)).isTrue();
    }
    assertThat(listener.failures)
        .singleElement()
        .asString()
        .startsWith("internal error in the fault path");
  }

  private void assertEveryPagePlacedOnce() {
    for (RamBlock block : table.blocks()) {
      for (long page = block.firstPageIndex(); page < block.endPageIndex(); page++) {
        assertThat(placer.placements.get((int) page))
            .as("placements of page %d", page)
            .isEqualTo(1);
        assertThat(engine.received().isReceived(page)).isTrue();
      }
    }
  }

  /** Odd pages are data, even ones zero; delivers at once, or when told to. */
  private static final class RecordingHandler implements PostcopyPageHandler {
    final List<String> fetches = new ArrayList<>();
    boolean hold;
    boolean bug;
    long failAt = -1;
    private @Nullable Runnable held;

    @Override
    public synchronized void fetch(
        RamBlock block, long first, int count, Urgency urgency, PageSink sink) {
      fetches.add(block.name() + " " + first + "+" + count + " " + urgency);
      if (bug) {
        throw new IllegalStateException("a bug");
      }
      if (hold) {
        held = () -> deliver(block, first, count, urgency, sink);
      } else {
        deliver(block, first, count, urgency, sink);
      }
    }

    void deliverHeld() {
      Runnable delivery = held;
      if (delivery == null) {
        throw new IllegalStateException("nothing held");
      }
      delivery.run();
    }

    private void deliver(RamBlock block, long first, int count, Urgency urgency, PageSink sink) {
      if (failAt >= first && failAt < first + count) {
        sink.failed(
            block, first, count, new IOException("/snap: offset " + failAt * 4096 + ": EIO"));
      } else if ((first & 1) == 0 && count > 1) {
        sink.zero(block, first, count, urgency);
      } else {
        sink.data(block, first, count, 0, urgency);
      }
    }

    @Override
    public void close() {}
  }

  private static final class RecordingPlacer implements PagePlacer {
    final AtomicIntegerArray placements = new AtomicIntegerArray(2048);
    final List<Long> wakes = new ArrayList<>();
    int refuseAfter = -1;

    @Override
    public PlaceResult placeData(
        RamBlock block, long first, int count, long source, Urgency urgency) {
      return place(first, count);
    }

    @Override
    public PlaceResult placeZero(RamBlock block, long first, int count, Urgency urgency) {
      return place(first, count);
    }

    private PlaceResult place(long first, int count) {
      int made = refuseAfter >= 0 ? Math.min(refuseAfter, count) : count;
      for (int i = 0; i < made; i++) {
        placements.incrementAndGet((int) first + i);
      }
      return made == count ? PlaceResult.PLACED : new PlaceResult.Refused(made, "no memory");
    }

    @Override
    public synchronized void wake(RamBlock block, long page) {
      wakes.add(page);
    }
  }

  private static final class RecordingListener implements EngineListener {
    final CountDownLatch complete = new CountDownLatch(1);
    final List<String> failures = new ArrayList<>();

    @Override
    public void allPagesReceived() {
      complete.countDown();
    }

    @Override
    public synchronized void loadFailed(String reason) {
      failures.add(reason);
    }
  }
}
