package dev.postcopyd.posix;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import org.junit.jupiter.api.Test;

class TimeSliceIT {
  @Test
  void aThreadCanAskForShortOnesAndForTheKernelsOwnAgain() {
    long before = TimeSlice.nanos();
    try {
      assertThat(TimeSlice.shorten()).isTrue();
      assumeTrue(before > 0, "a kernel before 6.12");
      assertThat(TimeSlice.nanos()).isEqualTo(100_000);
    } finally {
      TimeSlice.restore();
    }
    assertThat(TimeSlice.nanos()).isEqualTo(before);
  }
}
