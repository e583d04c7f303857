package dev.postcopyd.uffd;

import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.testing.Faults;
import dev.postcopyd.uffd.UffdResult.Again;
import dev.postcopyd.uffd.UffdResult.Done;
import dev.postcopyd.uffd.UffdResult.Exists;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What the observed process does to its memory besides faulting. */
@Timeout(60)
class UserfaultfdEventsIT extends UserfaultfdFixture {
  @Test
  void whileARemoveEventWaitsEverythingAnswersAgain() throws Exception {
    try (Userfaultfd uffd = open(UffdFeature.EVENT_REMOVE, UffdFeature.POISON);
        MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
        Faults faults = new Faults(uffd)) {
      register(uffd, memory);
      long at = memory.address();
      assertThat(uffd.copy(at, source.address(), PAGES * PAGE, 0)).isInstanceOf(Done.class);
      CompletableFuture<Integer> remover =
          Faults.onThread(() -> memory.dontNeed(2 * PAGE, 3 * PAGE));
      // It sleeps in madvise until its event is read.
      try (var pending = dev.postcopyd.posix.Poll.readable(uffd.fd())) {
        assertThat(pending.await(SECONDS.toNanos(20))).isEqualTo(1);
      }
      assertThat(uffd.copy(at, source.address(), PAGE, 0)).isSameAs(Again.INSTANCE);
      assertThat(uffd.zeroPage(at, PAGE, 0)).isSameAs(Again.INSTANCE);
      assertThat(uffd.poison(at, PAGE, 0)).isSameAs(Again.INSTANCE);
      assertThat(uffd.writeProtect(at, PAGE, 0)).isSameAs(Again.INSTANCE);
      assertThat(remover).isNotDone();

      assertThat(faults.next()).isEqualTo(new UffdEvent.Remove(at + 2 * PAGE, at + 5 * PAGE));
      assertThat(remover.get(20, SECONDS)).isZero();
      assertThat(uffd.copy(at, source.address(), PAGE, 0)).isSameAs(Exists.INSTANCE);
      assertThat(uffd.copy(at + 2 * PAGE, source.address(), 3 * PAGE, 0)).isInstanceOf(Done.class);
      assertThat(byteAt(memory, 2 * PAGE)).isEqualTo((byte) 1);
    }
  }

  @Test
  void unmappingIsReported() throws Exception {
    try (Userfaultfd uffd = open(UffdFeature.EVENT_UNMAP);
        Faults faults = new Faults(uffd)) {
      MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE);
      register(uffd, memory);
      long at = memory.address();
      CompletableFuture<Void> unmapper = CompletableFuture.runAsync(memory::close, Faults.THREADS);
      assertThat(faults.next()).isEqualTo(new UffdEvent.Unmap(at, at + PAGES * PAGE));
      unmapper.get(20, SECONDS);
    }
  }
}
