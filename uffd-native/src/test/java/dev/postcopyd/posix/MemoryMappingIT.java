package dev.postcopyd.posix;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.InstanceOfAssertFactories.type;

import dev.postcopyd.posix.NativeFile.Mode;
import dev.postcopyd.testing.HugePagePool;
import dev.postcopyd.testing.OpenDescriptors;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class MemoryMappingIT {
  private static final long PAGE = MemoryMapping.basePageSizeBytes();

  @TempDir Path directory;
  private Map<Integer, String> openBefore = Map.of();

  @BeforeEach
  void rememberDescriptors() {
    openBefore = OpenDescriptors.now();
  }

  @AfterEach
  void nothingLeaked() {
    assertThat(OpenDescriptors.now()).isEqualTo(openBefore);
  }

  /** The kernel's list of mappings; one with this address in it is mapped. */
  private static boolean isMapped(long address) throws IOException {
    try (var lines = Files.lines(Path.of("/proc/self/maps"))) {
      return lines.anyMatch(line -> {
        String[] range = line.substring(0, line.indexOf(' ')).split("-", -1);
        return Long.compareUnsigned(Long.parseUnsignedLong(range[0], 16), address) <= 0
            && Long.compareUnsigned(address, Long.parseUnsignedLong(range[1], 16)) < 0;
      });
    }
  }

  @Test
  void anonymousMemoryIsZeroWritableAndUnmappedOnce() throws IOException {
    MemoryMapping mapping = MemoryMapping.anonymous(4 * PAGE);
    long address = mapping.address();
    assertThat(mapping.lengthBytes()).isEqualTo(4 * PAGE);
    assertThat(mapping.pageSizeBytes()).isEqualTo(PAGE);
    assertThat(isMapped(address)).isTrue();
    assertThat(GuestMemoryAccess.isZero(address, 4 * PAGE)).isTrue();
    mapping.asSegment().set(JAVA_BYTE, 4 * PAGE - 1, (byte) 7);
    assertThat(mapping.dontNeed(3 * PAGE, PAGE)).isZero();
    assertThat(mapping.asSegment().get(JAVA_BYTE, 4 * PAGE - 1)).isZero();
    mapping.close();
    assertThat(isMapped(address)).isFalse();
    mapping.close();
    assertThatThrownBy(mapping::address).isInstanceOf(IllegalStateException.class);
    assertThatThrownBy(() -> mapping.populateRead(0, PAGE))
        .isInstanceOf(IllegalStateException.class);
  }

  @Test
  void moreThanTheMachineHasCanBeMappedButNotMoreThanTheAddressSpace() throws IOException {
    MemoryMapping.anonymous(1L << 42).close();
    assertThatThrownBy(() -> MemoryMapping.anonymous(1L << 60))
        .isInstanceOf(ErrnoException.class)
        .hasMessage(
            "mmap of 1152921504606846976 bytes at offset 0 of anonymous memory in pages of %d bytes:"
                    .formatted(PAGE)
                + " ENOMEM (Cannot allocate memory)");
  }

  @Test
  void rangesAreChecked() throws IOException {
    try (MemoryMapping mapping = MemoryMapping.anonymous(2 * PAGE)) {
      assertThatThrownBy(() -> mapping.populateRead(PAGE, 2 * PAGE))
          .isInstanceOf(IllegalArgumentException.class);
      assertThatThrownBy(() -> mapping.populateRead(-PAGE, PAGE))
          .isInstanceOf(IllegalArgumentException.class);
      assertThatThrownBy(() -> mapping.populateRead(PAGE, Long.MAX_VALUE))
          .isInstanceOf(IllegalArgumentException.class);
      assertThat(mapping.advise(1, PAGE, 4)).isEqualTo(Errno.EINVAL);
    }
    assertThatThrownBy(() -> MemoryMapping.anonymous(0))
        .isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void aMemfdIsSharedByItsMappings() throws IOException {
    try (NativeFile file = NativeFile.memfd("guest")) {
      file.truncate(2 * PAGE);
      try (MemoryMapping one = MemoryMapping.shared(file, 0, 2 * PAGE);
          MemoryMapping two = MemoryMapping.shared(file, PAGE, PAGE)) {
        one.asSegment().set(JAVA_BYTE, PAGE, (byte) 42);
        assertThat(two.asSegment().get(JAVA_BYTE, 0)).isEqualTo((byte) 42);
        assertThat(file.readBytesAt(PAGE, 1)).containsExactly(42);
      }
    }
  }

  @Test
  void populatingBeyondATruncatedFileIsAnAnswerAndNotASignal() throws IOException {
    Path path = directory.resolve("file");
    Files.write(path, new byte[(int) (2 * PAGE)]);
    try (NativeFile file = NativeFile.open(path, Mode.READ);
        MemoryMapping mapping = file.map(0, 2 * PAGE)) {
      assertThat(mapping.populateRead(0, 2 * PAGE)).isZero();
      try (NativeFile writing = NativeFile.open(path, Mode.READ_WRITE_CREATE)) {
        writing.truncate(PAGE);
      }
      assertThat(mapping.populateRead(0, PAGE)).isZero();
      assertThat(mapping.populateRead(PAGE, PAGE)).isEqualTo(Errno.EFAULT);
    }
  }

  @Test
  void hugePagesComeFromThePool() throws IOException {
    try (HugePagePool pool = HugePagePool.reserve(4)) {
      long huge = pool.pageSizeBytes();
      long before = HugePages.available(HugePages.SHIFT_2M);
      try (MemoryMapping anonymous = MemoryMapping.anonymousHuge(huge, HugePages.SHIFT_2M);
          NativeFile file = NativeFile.memfdHuge("guest", HugePages.SHIFT_2M)) {
        assertThat(anonymous.pageSizeBytes()).isEqualTo(huge);
        assertThat(anonymous.populateWrite(0, huge)).isZero();
        file.truncate(2 * huge);
        try (MemoryMapping shared = MemoryMapping.shared(file, huge, huge)) {
          assertThat(shared.pageSizeBytes()).isEqualTo(huge);
          assertThat(HugePages.available(HugePages.SHIFT_2M)).isEqualTo(before - 2);
        }
        assertThatThrownBy(() -> MemoryMapping.shared(file, PAGE, huge))
            .isInstanceOf(IllegalArgumentException.class);
      }
      assertThat(HugePages.available(HugePages.SHIFT_2M)).isEqualTo(before);
    }
  }

  @Test
  void tooFewHugePagesSaysHowManyAndHowToReserveMore() throws IOException {
    try (HugePagePool pool = HugePagePool.reserve(1)) {
      long available = HugePages.available(HugePages.SHIFT_2M);
      long length = (available + 1) * pool.pageSizeBytes();
      String message =
          (available + 1)
              + " huge pages of 2048 KiB are needed and "
              + available
              + " of "
              + HugePages.total(HugePages.SHIFT_2M)
              + " are free: reserve more, e.g. echo N >"
              + " /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
      assertThatThrownBy(() -> MemoryMapping.anonymousHuge(length, HugePages.SHIFT_2M))
          .asInstanceOf(type(ErrnoException.class))
          .returns(Errno.ENOMEM, ErrnoException::errno)
          .extracting(ErrnoException::getMessage)
          .asString()
          .endsWith("in pages of 2097152 bytes: ENOMEM (Cannot allocate memory); " + message);
      try (NativeFile file = NativeFile.memfdHuge("guest", HugePages.SHIFT_2M)) {
        file.truncate(length);
        assertThatThrownBy(() -> MemoryMapping.shared(file, 0, length))
            .hasMessageStartingWith("mmap of " + length + " bytes at offset 0 of memfd:guest")
            .hasMessageEndingWith(message);
      }
    }
  }

  @Test
  void aSizeOfHugePagesThatTheKernelLacks() {
    assertThat(HugePages.supported(24)).isFalse();
    assertThatThrownBy(() -> MemoryMapping.anonymousHuge(1 << 24, 24))
        .hasMessageContaining(
            "this kernel has no huge pages of 16384 KiB (no"
                + " /sys/kernel/mm/hugepages/hugepages-16384kB)");
    assertThatThrownBy(() -> NativeFile.memfdHuge("x", 24))
        .hasMessageContaining("this kernel has no huge pages of 16384 KiB");
  }
}
