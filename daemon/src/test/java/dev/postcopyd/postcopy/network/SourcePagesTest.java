package dev.postcopyd.postcopy.network;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.EngineListener;
import dev.postcopyd.postcopy.PagePlacer;
import dev.postcopyd.postcopy.PlaceResult;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.source.UrgentChannel;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Pages that come: asked for, unasked, twice, at the same time as somebody asks, or never. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class SourcePagesTest {
  private static final int PAGES = 500;

  private final RamBlock block;
  private final Arrivals arrivals;
  private final AtomicIntegerArray placed = new AtomicIntegerArray(PAGES);
  private final AtomicInteger zeros = new AtomicInteger();
  private final AtomicInteger completions = new AtomicInteger();
  private final List<String> failures = Collections.synchronizedList(new ArrayList<>());
  private final List<String> requests = Collections.synchronizedList(new ArrayList<>());
  private SourcePages pages;
  private PostcopyEngine engine;

  SourcePagesTest() {
    RamBlockTable.Builder table = RamBlockTable.builder();
    block = table.add("ram", PAGES * 4096L, PageSize.SIZE_4K);
    arrivals = new Arrivals(table.build());
    pages = new SourcePages(arrivals, null);
    engine = newEngine();
  }

  @BeforeEach
  void connect() {
    pages.deliverTo(engine);
    pages.attach(this::note);
  }

  private void note(RamBlock of, long first, int count) {
    requests.add(first + "+" + count);
  }

  private PostcopyEngine newEngine() {
    PagePlacer placer =
        new PagePlacer() {
          @Override
          public PlaceResult placeData(
              RamBlock of, long first, int count, long address, Urgency urgency) {
            return place(first, count);
          }

          @Override
          public PlaceResult placeZero(RamBlock of, long first, int count, Urgency urgency) {
            zeros.addAndGet(count);
            return place(first, count);
          }

          private PlaceResult place(long first, int count) {
            for (int i = 0; i < count; i++) {
              placed.incrementAndGet((int) first + i);
            }
            return PlaceResult.PLACED;
          }

          @Override
          public void wake(RamBlock of, long page) {}
        };
    return new PostcopyEngine(
        arrivals.table(),
        pages,
        placer,
        new EngineListener() {
          @Override
          public void allPagesReceived() {
            completions.incrementAndGet();
          }

          @Override
          public void loadFailed(String reason) {
            failures.add(reason);
          }
        },
        new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT)));
  }

  private void come(long page, int count) throws IOException {
    pages.data(block, page * 4096, count, 0, 4104);
  }

  private void finish() throws IOException {
    pages.finish(() -> UrgentChannel.NONE, false, () -> false);
  }

  @Test
  void pageThatComesTwiceIsPlacedOnce() throws IOException {
    come(3, 4);
    come(5, 4);
    pages.zero(block, 0, 20);
    for (int page = 0; page < 20; page++) {
      assertThat(placed.get(page)).as("page %d", page).isEqualTo(1);
    }
    assertThat(arrivals.remainingBytes()).isEqualTo((PAGES - 20) * 4096L);
    assertThat(requests).isEmpty();
  }

  @Test
  void faultIsAskedForOnce() throws IOException {
    engine.fault(block, 7, 1, 0);
    engine.fault(block, 7, 2, 0);
    assertThat(requests).containsExactly("7+1");
    assertThat(engine.hasOutstandingFaults()).isTrue();
    come(7, 1);
    assertThat(engine.hasOutstandingFaults()).isFalse();
    engine.fault(block, 7, 1, 0);
    assertThat(requests).hasSize(1);
  }

  @Test
  void whatWasAskedForIsAskedForAgain() throws IOException {
    engine.fault(block, 7, 1, 0);
    engine.fault(block, 9, 2, 0);
    come(7, 1);
    pages.detach();
    engine.fault(block, 11, 3, 0);
    assertThat(requests).containsExactly("7+1", "9+1");
    requests.clear();
    pages.attach(this::note);
    assertThat(requests).containsExactly("9+1", "11+1");
  }

  @Test
  void whatDoesNotComeIsZero() throws IOException {
    engine.fault(block, 7, 1, 0);
    come(100, 50);
    finish();
    assertThat(zeros).hasValue(PAGES - 50);
    assertThat(engine.isComplete()).isTrue();
    assertThat(completions).hasValue(1);
    assertThat(engine.hasOutstandingFaults()).isFalse();
    assertThat(failures).isEmpty();
  }

  /** One that was asked for and is on its way is no zero page. */
  @Test
  void pageOnItsWayIsWaitedFor() throws Exception {
    engine.fault(block, 7, 1, 0);
    Thread urgent =
        Thread.ofPlatform()
            .start(() -> {
              try {
                Thread.sleep(100);
                come(7, 1);
              } catch (IOException | InterruptedException e) {
                failures.add(e.toString());
              }
            });
    pages.finish(() -> UrgentChannel.OPEN, true, () -> false);
    urgent.join();
    assertThat(zeros).hasValue(PAGES - 1);
    assertThat(placed.get(7)).isEqualTo(1);
    assertThat(failures).isEmpty();
  }

  /** What a slow network still holds on a connection that has not said anything is no zero page. */
  @Test
  void silentConnectionIsWaitedForToo() throws Exception {
    engine.fault(block, 7, 1, 0);
    Thread urgent =
        Thread.ofPlatform()
            .start(() -> {
              try {
                Thread.sleep(2_500);
                come(7, 1);
              } catch (IOException | InterruptedException e) {
                failures.add(e.toString());
              }
            });
    pages.finish(() -> UrgentChannel.SILENT, false, () -> false);
    urgent.join();
    assertThat(zeros).hasValue(PAGES - 1);
    assertThat(failures).isEmpty();
  }

  /** More data than there may be is refused; zero pages cost nothing. */
  @Test
  void dataHasALimit() throws IOException {
    Arrivals few = new Arrivals(arrivals.table(), new DataLimit(10, "there is no more"));
    pages = new SourcePages(few, null);
    engine = newEngine();
    pages.deliverTo(engine);
    few.switchedOver(0);
    pages.zero(block, 0, 300);
    come(300, 10);
    assertThatThrownBy(() -> come(310, 1))
        .isInstanceOf(IOException.class)
        .hasMessageContaining("11 pages with data, and there is no more");
  }

  @Test
  void endOfTheConnectionEndsTheWaiting() {
    engine.fault(block, 7, 1, 0);
    assertThatThrownBy(() -> pages.finish(() -> UrgentChannel.OPEN, true, () -> true))
        .isInstanceOf(IOException.class);
    assertThat(zeros).hasValue(0);
  }

  /** Faults, two channels and pages that the guest gives back, all at once. */
  @Test
  void everyPageIsPlacedOnceUnderAnyInterleaving() throws Exception {
    for (int round = 0; round < 40; round++) {
      Arrivals fresh = new Arrivals(arrivals.table());
      SourcePages of = new SourcePages(fresh, null);
      pages = of;
      engine = newEngine();
      of.deliverTo(engine);
      of.attach((_, _, _) -> {});
      for (int page = 0; page < PAGES; page++) {
        placed.set(page, 0);
      }
      int seed = round;
      List<Thread> threads = new ArrayList<>();
      for (int channel = 0; channel < 2; channel++) {
        Random random = new Random(seed * 10L + channel);
        threads.add(
            Thread.ofPlatform()
                .start(() -> {
                  try {
                    for (int i = 0; i < 300; i++) {
                      of.data(block, random.nextInt(PAGES - 8) * 4096L, 8, 0, 4104);
                    }
                  } catch (IOException | RuntimeException e) {
                    failures.add(e.toString());
                  }
                }));
      }
      PostcopyEngine running = engine;
      threads.add(
          Thread.ofPlatform()
              .start(() -> {
                Random random = new Random(seed);
                for (int i = 0; i < 300; i++) {
                  running.fault(block, random.nextInt(PAGES), 1, 0);
                  running.drop(block, random.nextInt(PAGES - 4), 2);
                }
              }));
      for (Thread thread : threads) {
        thread.join();
      }
      finish();
      assertThat(failures).isEmpty();
      assertThat(engine.isComplete()).isTrue();
      assertThat(engine.hasOutstandingFaults()).isFalse();
      for (int page = 0; page < PAGES; page++) {
        assertThat(placed.get(page)).as("page %d", page).isLessThanOrEqualTo(1);
      }
    }
  }
}
