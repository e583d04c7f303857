package dev.postcopyd.uffd;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.testing.OpenDescriptors;
import dev.postcopyd.testing.Requirement;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;

/** A source of recognisable pages, and a check that no descriptor leaks. */
abstract class UserfaultfdFixture {
  static final long PAGE = MemoryMapping.basePageSizeBytes();
  static final int PAGES = 16;

  final Arena arena = Arena.ofShared();

  /** Page {@code i} of the source holds bytes of value {@code i + 1}. */
  final MemorySegment source = arena.allocate(PAGES * PAGE, PAGE);

  private Map<Integer, String> openBefore = Map.of();

  @BeforeEach
  void prepare() {
    openBefore = OpenDescriptors.now();
    for (int i = 0; i < PAGES; i++) {
      source.asSlice(i * PAGE, PAGE).fill((byte) (i + 1));
    }
  }

  @AfterEach
  void nothingLeaked() {
    arena.close();
    assertThat(OpenDescriptors.now()).isEqualTo(openBefore);
  }

  static Userfaultfd open(UffdFeature... features) throws IOException {
    try {
      return Userfaultfd.open(UffdOptions.defaults().requiring(features));
    } catch (UffdException e) {
      Requirement.that(false, "userfaultfd: " + e.getMessage());
      throw e;
    }
  }

  static RegisteredIoctls register(Userfaultfd uffd, MemoryMapping memory) throws IOException {
    return uffd.register(memory.address(), memory.lengthBytes(), Set.of(RegisterMode.MISSING));
  }

  /** Reads a byte of guest memory that is there, through a plain downcall. */
  byte byteAt(MemoryMapping memory, long offset) {
    return byteAt(memory.address() + offset);
  }

  byte byteAt(long address) {
    MemorySegment copy = arena.allocate(1);
    GuestMemoryAccess.copy(copy.address(), address, 1);
    return copy.get(JAVA_BYTE, 0);
  }
}
