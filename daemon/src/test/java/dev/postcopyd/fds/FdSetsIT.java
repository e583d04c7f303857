package dev.postcopyd.fds;

import static dev.postcopyd.posix.abi.PosixConstants.F_SETFL;
import static dev.postcopyd.posix.abi.PosixConstants.O_DIRECT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_FCNTL;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** With real descriptors. Texts and orders were answered by QEMU 10.0.2. */
class FdSetsIT {
  private final FdSets sets = new FdSets();

  @TempDir Path directory;

  @AfterEach
  void closeSets() {
    sets.close();
  }

  private int readable(String content) throws IOException {
    Path path = Files.writeString(directory.resolve("readable"), content);
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.READ)) {
      return file.release();
    }
  }

  private int writable() throws IOException {
    Path path = directory.resolve("writable");
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.WRITE_CREATE_TRUNCATE)) {
      return file.release();
    }
  }

  private int both() throws IOException {
    Path path = directory.resolve("both");
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE)) {
      return file.release();
    }
  }

  private static boolean isOpen(int fd) {
    return Files.exists(Path.of("/proc/self/fd/" + fd), LinkOption.NOFOLLOW_LINKS);
  }

  @Test
  void listsSetsFromTheHighestAndMembersAsTheyWereAdded() throws Exception {
    int first = readable("a");
    int second = writable();
    int other = both();
    int freeNumber = both();
    sets.add(first, OptionalLong.of(3), Optional.of("o"));
    sets.add(second, OptionalLong.of(3), Optional.empty());
    sets.add(other, OptionalLong.of(0), Optional.empty());

    assertThat(sets.add(freeNumber, OptionalLong.empty(), Optional.of("")))
        .isEqualTo(new FdSets.Added(1, freeNumber));
    assertThat(sets.query())
        .containsExactly(
            new FdSets.SetInfo(
                3,
                List.of(
                    new FdSets.Member(first, Optional.of("o")),
                    new FdSets.Member(second, Optional.empty()))),
            new FdSets.SetInfo(1, List.of(new FdSets.Member(freeNumber, Optional.of("")))),
            new FdSets.SetInfo(0, List.of(new FdSets.Member(other, Optional.empty()))));
  }

  @Test
  void aNegativeNumberIsRefusedAndTheDescriptorClosed() throws Exception {
    int fd = both();

    assertThatThrownBy(() -> sets.add(fd, OptionalLong.of(-1), Optional.empty()))
        .isInstanceOf(DescriptorException.class)
        .hasMessage("Parameter 'fdset-id' expects a non-negative value");
    assertThat(isOpen(fd)).isFalse();
  }

  @Test
  void removesOneMemberOrAllAndTheSetWithTheLast() throws Exception {
    int first = readable("a");
    int second = writable();
    int third = both();
    for (int fd : new int[] {first, second, third}) {
      sets.add(fd, OptionalLong.of(7), Optional.empty());
    }

    sets.remove(7, OptionalLong.of(second));
    assertThat(isOpen(second)).isFalse();
    assertThat(isOpen(first)).isTrue();
    sets.remove(7, OptionalLong.empty());
    assertThat(isOpen(first)).isFalse();
    assertThat(isOpen(third)).isFalse();
    assertThat(sets.query()).isEmpty();
  }

  @Test
  void removingWhatIsNotThereSaysSoAsQemuDoes() throws Exception {
    sets.add(both(), OptionalLong.of(3), Optional.empty());

    assertThatThrownBy(() -> sets.remove(9, OptionalLong.empty()))
        .hasMessage("File descriptor named 'fdset-id:9' not found");
    assertThatThrownBy(() -> sets.remove(3, OptionalLong.of(9999)))
        .hasMessage("File descriptor named 'fdset-id:3, fd:9999' not found");
    assertThatThrownBy(() -> sets.remove(3, OptionalLong.of(-5)))
        .hasMessage("File descriptor named 'fdset-id:3, fd:-5' not found");
  }

  @Test
  void opensADuplicateOfTheMemberWithTheWantedAccess() throws Exception {
    int readable = readable("snapshot");
    sets.add(writable(), OptionalLong.of(7), Optional.empty());
    sets.add(readable, OptionalLong.of(7), Optional.empty());
    sets.add(both(), OptionalLong.of(7), Optional.empty());

    try (NativeFile file = sets.open("/dev/fdset/7", FdSets.Access.READ)) {
      assertThat(file.fd()).isNotEqualTo(readable);
      assertThat(file.name()).isEqualTo("/dev/fdset/7");
      sets.remove(7, OptionalLong.empty());
      assertThat(new String(file.readBytesAt(0, 8), UTF_8)).isEqualTo("snapshot");
    }
  }

  @Test
  void aDescriptorForReadingAndWritingIsNotOneForReading() throws Exception {
    sets.add(both(), OptionalLong.of(7), Optional.empty());

    assertThatThrownBy(() -> sets.open("/dev/fdset/7", FdSets.Access.READ))
        .isInstanceOf(DescriptorException.class)
        .hasMessage("Failed to find file descriptor with matching flags=0x0");
    assertThatThrownBy(() -> sets.open("/dev/fdset/7", FdSets.Access.WRITE))
        .hasMessage("Failed to find file descriptor with matching flags=0x1");
    sets.open("/dev/fdset/7", FdSets.Access.READ_WRITE).close();
  }

  @Test
  void aDescriptorForDirectIoIsPassedOver() throws Exception {
    // In the build directory: a temporary one may be a tmpfs, which knows no direct I/O.
    Path path = Files.writeString(Path.of("target", "direct-io"), "x");
    int direct;
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.READ)) {
      direct = file.release();
    }
    assertThat(Libc.syscall(SYS_FCNTL, direct, F_SETFL, O_DIRECT)).isZero();
    sets.add(direct, OptionalLong.of(7), Optional.empty());

    assertThatThrownBy(() -> sets.open("/dev/fdset/7", FdSets.Access.READ))
        .hasMessage("Failed to find file descriptor with matching flags=0x0");
    sets.add(readable("x"), OptionalLong.of(7), Optional.empty());
    sets.open("/dev/fdset/7", FdSets.Access.READ).close();
  }

  @Test
  void aSetThatDoesNotExistIsNamed() {
    assertThatThrownBy(() -> sets.open("/dev/fdset/7", FdSets.Access.READ))
        .hasMessage("Failed to find fdset /dev/fdset/7");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "/dev/fdset/",
        "/dev/fdset/x",
        "/dev/fdset/-1",
        "/dev/fdset/7x",
        "/dev/fdset/99999999999"
      })
  void aNumberThatIsNoneIsNamed(String path) {
    assertThatThrownBy(() -> sets.open(path, FdSets.Access.READ))
        .hasMessage("Could not parse fdset " + path);
  }

  @Test
  void closingClosesAll() throws Exception {
    int fd = both();
    sets.add(fd, OptionalLong.of(2), Optional.empty());
    sets.close();

    assertThat(isOpen(fd)).isFalse();
    assertThat(sets.size()).isZero();
    int late = both();
    assertThatThrownBy(() -> sets.add(late, OptionalLong.empty(), Optional.empty()))
        .isInstanceOf(DescriptorException.class);
    assertThat(isOpen(late)).isFalse();
  }
}
