package dev.postcopyd.uffd;

import static java.util.concurrent.TimeUnit.MILLISECONDS;
import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.testing.Faults;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class UffdPollerIT extends UserfaultfdFixture {
  private static CompletableFuture<Integer> await(UffdPoller poller, UffdEventBuffer buffer) {
    return Faults.onThread(() -> {
      try {
        return poller.await(buffer, -1);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    });
  }

  @Test
  void sleepsUntilAFaultComes() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        UffdPoller poller = UffdPoller.of(uffd)) {
      register(uffd, memory);
      UffdEventBuffer buffer = new UffdEventBuffer(4);
      CompletableFuture<Integer> waiting = await(poller, buffer);
      assertThatThrownBy(() -> waiting.get(50, MILLISECONDS))
          .isInstanceOf(java.util.concurrent.TimeoutException.class);
      CompletableFuture<Integer> toucher = Faults.read(memory, 0, PAGE);
      assertThat(waiting.get(20, SECONDS)).isEqualTo(1);
      assertThat(buffer.faultAddress(0)).isEqualTo(memory.address());
      assertThat(uffd.zeroPage(memory.address(), PAGE, 0)).isInstanceOf(UffdResult.Done.class);
      assertThat(toucher.get(20, SECONDS)).isZero();
    }
  }

  @Test
  void isWokenFromAnotherThreadAndOncePerWake() throws Exception {
    try (Userfaultfd uffd = open();
        UffdPoller poller = UffdPoller.of(uffd)) {
      UffdEventBuffer buffer = new UffdEventBuffer(4);
      CompletableFuture<Integer> waiting = await(poller, buffer);
      poller.wake();
      assertThat(waiting.get(20, SECONDS)).isZero();
      poller.wake();
      assertThat(poller.await(buffer, -1)).as("a wake before the waiting counts").isZero();
      long before = System.nanoTime();
      assertThat(poller.await(buffer, MILLISECONDS.toNanos(30))).isZero();
      assertThat(System.nanoTime() - before)
          .as("the earlier wakes are used up")
          .isGreaterThan(MILLISECONDS.toNanos(29));
    }
  }

  @Test
  void eventsComeBeforeAWake() throws Exception {
    try (Userfaultfd uffd = open();
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        UffdPoller poller = UffdPoller.of(uffd)) {
      register(uffd, memory);
      CompletableFuture<Integer> toucher = Faults.read(memory, 0, PAGE);
      try (var pending = dev.postcopyd.posix.Poll.readable(uffd.fd())) {
        assertThat(pending.await(SECONDS.toNanos(20))).isEqualTo(1);
      }
      poller.wake();
      UffdEventBuffer buffer = new UffdEventBuffer(4);
      assertThat(poller.await(buffer, -1)).isEqualTo(1);
      assertThat(poller.await(buffer, -1)).isZero();
      assertThat(uffd.zeroPage(memory.address(), PAGE, 0)).isInstanceOf(UffdResult.Done.class);
      assertThat(toucher.get(20, SECONDS)).isZero();
    }
  }
}
