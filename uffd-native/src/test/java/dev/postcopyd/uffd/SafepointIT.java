package dev.postcopyd.uffd;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.testing.Programs;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * A thread that faults inside a plain downcall does not hold up safepoints; one that faults in the
 * Java state deadlocks the JVM. Each case runs in a JVM of its own, which is killed from outside
 * when its time is over: a deadlocked one heeds nothing else.
 */
class SafepointIT {
  @BeforeEach
  void permission() throws Exception {
    UserfaultfdFixture.open().close();
  }

  private static Programs.Ended run(String touch, String handler, Duration atMost) {
    List<String> command = new ArrayList<>(Programs.java(FaultsUnderGc.class));
    command.add(touch);
    command.add(handler);
    return Programs.run(atMost, Map.of(), command);
  }

  @ParameterizedTest
  @CsvSource({
    "populate, handler-only-copies",
    "populate, handler-collects",
    "memcpy, handler-only-copies",
    "memcpy, handler-collects"
  })
  void plainDowncallsLetCollectionsPass(String touch, String handler) {
    assertThat(run(touch, handler, Duration.ofMinutes(3)))
        .isEqualTo(new Programs.Ended(0, "touching by %s\ndone: 0 wrong pages\n".formatted(touch)));
  }

  /** That the test above can fail: the very first fault deadlocks. */
  @Test
  void aMemorySegmentDeadlocks() {
    assertThat(run("segment", "handler-collects", Duration.ofSeconds(10)))
        .isEqualTo(new Programs.Ended(-1, "touching by segment\n"));
  }
}
