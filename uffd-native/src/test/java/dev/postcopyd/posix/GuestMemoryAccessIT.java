package dev.postcopyd.posix;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.junit.jupiter.api.Test;

class GuestMemoryAccessIT {
  @Test
  void guestMemoryIsComparedAndCopiedByAddress() {
    try (Arena arena = Arena.ofConfined()) {
      long length = 200_000;
      MemorySegment one = arena.allocate(length);
      MemorySegment two = arena.allocate(length);
      assertThat(GuestMemoryAccess.isZero(one.address(), length)).isTrue();
      one.set(JAVA_BYTE, length - 1, (byte) 1);
      assertThat(GuestMemoryAccess.isZero(one.address(), length)).isFalse();
      assertThat(GuestMemoryAccess.isZero(one.address(), length - 1)).isTrue();
      assertThat(GuestMemoryAccess.equal(one.address(), two.address(), length)).isFalse();
      GuestMemoryAccess.copy(two.address(), one.address(), length);
      assertThat(GuestMemoryAccess.equal(one.address(), two.address(), length)).isTrue();
    }
  }
}
