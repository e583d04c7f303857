package dev.postcopyd.posix;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.util.BitSet;
import org.junit.jupiter.api.Test;

class CpuAffinityIT {
  @Test
  void aThreadCanBePinned() throws IOException {
    BitSet before = CpuAffinity.ofCurrentThread();
    assertThat(before.cardinality()).isEqualTo(Runtime.getRuntime().availableProcessors());
    int cpu = before.nextSetBit(0);
    try {
      CpuAffinity.pinCurrentThread(cpu);
      assertThat(CpuAffinity.ofCurrentThread().stream()).containsExactly(cpu);
    } finally {
      CpuAffinity.setCurrentThread(before);
    }
    assertThat(CpuAffinity.ofCurrentThread()).isEqualTo(before);
  }
}
