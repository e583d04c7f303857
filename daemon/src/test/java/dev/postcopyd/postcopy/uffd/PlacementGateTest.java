package dev.postcopyd.postcopy.uffd;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Nobody is inside while the gate is closed, and everybody gets on. */
@Timeout(60)
class PlacementGateTest {
  @Test
  void nobodyIsInsideWhileItIsClosed() throws InterruptedException {
    PlacementGate gate = new PlacementGate();
    AtomicBoolean stop = new AtomicBoolean();
    AtomicBoolean closed = new AtomicBoolean();
    AtomicInteger violations = new AtomicInteger();
    AtomicLong passages = new AtomicLong();
    List<Thread> placers = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      placers.add(
          Thread.ofPlatform()
              .start(() -> {
                while (!stop.get()) {
                  gate.enter();
                  if (closed.get()) {
                    violations.incrementAndGet();
                  }
                  passages.incrementAndGet();
                  gate.leave();
                }
              }));
    }
    for (int i = 0; i < 20_000; i++) {
      gate.close();
      closed.set(true);
      Thread.onSpinWait();
      closed.set(false);
      gate.open();
    }
    stop.set(true);
    for (Thread placer : placers) {
      placer.join();
    }
    assertThat(violations).hasValue(0);
    assertThat(passages.get()).isPositive();
  }
}
