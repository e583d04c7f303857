package dev.postcopyd.postcopy.network;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** How much is asked for ahead, and when: never where a source sends by itself. */
@Timeout(value = 20, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class ReadaheadTest {
  private static final Duration SOON = Duration.ofSeconds(5);

  /** Longer than a source may be silent that sends by itself. */
  private static final Duration QUIET = Duration.ofMillis(400);

  private final Readahead readahead = new Readahead();

  private Thread waiting() {
    return Thread.ofPlatform().daemon().start(readahead::awaitTurn);
  }

  private void comesWindow() {
    int pages = (int) readahead.windowPages();
    readahead.asked(pages);
    readahead.came(pages);
  }

  @Test
  void windowDoublesWhenAllOfItHasCome() {
    assertThat(readahead.windowPages()).isEqualTo(Readahead.RUN_PAGES);
    comesWindow();
    assertThat(readahead.windowPages()).isEqualTo(2 * Readahead.RUN_PAGES);
    readahead.asked(20);
    readahead.came(20);
    assertThat(readahead.windowPages()).as("not all of it").isEqualTo(2 * Readahead.RUN_PAGES);
    readahead.asked(12);
    readahead.came(12);
    assertThat(readahead.windowPages()).isEqualTo(4 * Readahead.RUN_PAGES);
  }

  @Test
  void windowHasALimit() {
    for (int i = 0; i < 20; i++) {
      comesWindow();
    }
    assertThat(readahead.windowPages()).isEqualTo(2048);
  }

  @Test
  void faultMakesItSmallAtOnce() {
    for (int i = 0; i < 5; i++) {
      comesWindow();
    }
    readahead.faulted();
    assertThat(readahead.windowPages()).isEqualTo(Readahead.RUN_PAGES);
    comesWindow();
    assertThat(readahead.windowPages()).as("and it grows again").isEqualTo(32);
  }

  @Test
  void nothingIsAskedOfASourceThatSendsByItself() throws Exception {
    readahead.attached(true);
    Thread loader = waiting();
    long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(700);
    while (System.nanoTime() < end) {
      readahead.pushed();
      Thread.sleep(20);
    }
    assertThat(loader.isAlive()).isTrue();
    assertThat(loader.join(SOON)).as("it has stopped sending").isTrue();
  }

  @Test
  void nothingIsAskedWithoutAConnection() throws Exception {
    readahead.attached(true);
    readahead.attached(false);
    Thread loader = waiting();
    assertThat(loader.join(QUIET)).isFalse();
    readahead.attached(true);
    assertThat(loader.join(SOON)).isTrue();
  }

  @Test
  void fullWindowIsWaitedFor() throws Exception {
    readahead.attached(true);
    Thread.sleep(QUIET);
    readahead.awaitTurn();
    readahead.asked(Readahead.RUN_PAGES);
    Thread loader = waiting();
    assertThat(loader.join(Duration.ofMillis(100))).isFalse();
    readahead.came(1);
    assertThat(loader.join(SOON)).isTrue();
  }

  @Test
  void whoeverWaitsGoesOnAtTheEnd() throws Exception {
    Thread loader = waiting();
    assertThat(loader.join(Duration.ofMillis(50))).isFalse();
    readahead.stop();
    assertThat(loader.join(SOON)).isTrue();
    readahead.awaitTurn();
  }
}
