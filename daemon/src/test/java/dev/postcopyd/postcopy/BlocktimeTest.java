package dev.postcopyd.postcopy;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.metrics.PostcopyMetrics;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import org.junit.jupiter.api.Test;

class BlocktimeTest {
  private final PostcopyMetrics metrics =
      new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT));
  private final OutstandingFaults faults = new OutstandingFaults();

  @Test
  void latenciesGoIntoTheBucketOfTheirPowerOfTwoOfAMicrosecond() {
    long[] latencies = {0, 999, 1_000, 1_999, 2_000, 3_999, 4_000, 1_000_000, 1L << 62};
    for (int i = 0; i < latencies.length; i++) {
      faults.begin(i, 1, 0);
      faults.end(i, 1, latencies[i], metrics);
    }
    Blocktime.Figures figures = faults.blocktime();
    assertThat(figures.distribution()).hasSize(24);
    assertThat(figures.distribution().subList(0, 4)).containsExactly(4L, 2L, 1L, 0L);
    assertThat(figures.distribution().get(9)).as("1 ms = [512, 1024) microseconds").isEqualTo(1);
    assertThat(figures.distribution().get(23)).as("whatever is longer").isEqualTo(1);
  }

  @Test
  void threadsAddUpAloneAndTheGuestIsBlockedWhenAllAre() {
    faults.begin(1, 100, 0);
    faults.end(1, 1, 1_000_000, metrics); // the only thread known so far: the guest stood still
    faults.begin(2, 200, 2_000_000); // one of two waits
    faults.begin(3, 100, 5_000_000); // both wait
    faults.end(2, 1, 6_000_000, metrics);
    faults.end(3, 1, 9_000_000, metrics);
    Blocktime.Figures figures = faults.blocktime();
    assertThat(figures.threads())
        .containsExactly(
            new Blocktime.ThreadFigures(100, 2, 5_000_000),
            new Blocktime.ThreadFigures(200, 1, 4_000_000));
    assertThat(figures.blocktimeNanos()).isEqualTo(2_000_000);
    assertThat(figures.averageLatencyNanos()).isEqualTo(3_000_000);
  }

  @Test
  void aThreadThatFaultsAgainOnThePageItWaitsForCountsOnce() {
    faults.begin(1, 100, 0);
    faults.begin(1, 100, 500);
    faults.end(0, 64, 1_000, metrics);
    assertThat(faults.isEmpty()).isTrue();
    assertThat(faults.blocktime().faults()).isEqualTo(1);
    assertThat(faults.blocktime().latencyNanos()).isEqualTo(1_000);
  }

  @Test
  void anyNumberOfThreadsMayWait() {
    for (int i = 0; i < 10_000; i++) {
      faults.begin(i, i + 1, 0);
    }
    faults.end(0, 10_000, 10, metrics);
    assertThat(faults.isEmpty()).isTrue();
    assertThat(faults.blocktime().faults()).isEqualTo(10_000);
    assertThat(faults.blocktime().threads()).hasSize(4096);
  }
}
