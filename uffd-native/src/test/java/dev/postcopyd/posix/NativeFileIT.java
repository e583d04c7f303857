package dev.postcopyd.posix;

import static dev.postcopyd.posix.abi.PosixConstants.O_DIRECT;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.InstanceOfAssertFactories.type;

import dev.postcopyd.posix.NativeFile.Mode;
import dev.postcopyd.testing.OpenDescriptors;
import dev.postcopyd.testing.Programs;
import dev.postcopyd.testing.Requirement;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NativeFileIT {
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

  private Path file(String content) throws IOException {
    Path path = directory.resolve("file");
    Files.writeString(path, content);
    return path;
  }

  @Test
  void readsByPosition() throws IOException {
    try (NativeFile file = NativeFile.open(file("0123456789"), Mode.READ)) {
      assertThat(file.readBytesAt(3, 4)).isEqualTo("3456".getBytes(StandardCharsets.US_ASCII));
      assertThat(file.readBytesAt(10, 0)).isEmpty();
      assertThat(file.sizeBytes()).isEqualTo(10);
      assertThat(file.isRegularFile()).isTrue();
      assertThat(file.isDirectory()).isFalse();
      assertThat(file.isBlockDevice()).isFalse();
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment into = arena.allocate(16);
        assertThat(file.readAt(into.address(), 16, 4)).isEqualTo(6);
        assertThat(into.asSlice(0, 6).toArray(ValueLayout.JAVA_BYTE))
            .isEqualTo("456789".getBytes(StandardCharsets.US_ASCII));
        assertThat(file.readAt(into.address(), 16, 10)).isZero();
      }
    }
  }

  @Test
  void shortReadNamesFileOffsetAndLength() throws IOException {
    Path path = file("0123456789");
    try (NativeFile file = NativeFile.open(path, Mode.READ)) {
      assertThatThrownBy(() -> file.readBytesAt(8, 5))
          .isInstanceOf(ShortReadException.class)
          .hasMessage(path + " ends early: 5 bytes wanted at offset 8, 2 there")
          .asInstanceOf(type(ShortReadException.class))
          .returns(8L, ShortReadException::offsetBytes)
          .returns(5L, ShortReadException::lengthBytes)
          .returns(2L, ShortReadException::readBytes);
    }
  }

  @Test
  void errorsCarryTheErrno() throws IOException {
    Path missing = directory.resolve("missing");
    assertThatThrownBy(() -> NativeFile.open(missing, Mode.READ))
        .isInstanceOf(ErrnoException.class)
        .hasMessage("open of " + missing + ": ENOENT (No such file or directory)")
        .asInstanceOf(type(ErrnoException.class))
        .returns(Errno.ENOENT, ErrnoException::errno)
        .returns("open", ErrnoException::call)
        .returns(missing.toString(), ErrnoException::target);
    assertThatThrownBy(() -> NativeFile.open(file("x"), Mode.WRITE_CREATE_EXCLUSIVE))
        .hasMessageContaining("EEXIST");
    try (NativeFile reading = NativeFile.open(file("x"), Mode.READ)) {
      assertThatThrownBy(() -> reading.writeBytesAt(new byte[3], 7))
          .hasMessage(
              "pwrite of 3 bytes at offset 7 of "
                  + reading.name()
                  + ": EBADF (Bad file descriptor)");
      assertThatThrownBy(() -> reading.readFullyAt(8, 4096, 0)).hasMessageContaining("EFAULT");
      assertThatThrownBy(() -> reading.readFullyAt(8, 1, -1)).hasMessageContaining("EINVAL");
    }
    try (NativeFile opened = NativeFile.open(directory, Mode.READ)) {
      assertThat(opened.isDirectory()).isTrue();
      assertThatThrownBy(() -> opened.readBytesAt(0, 1))
          .hasMessageContaining("EISDIR (Is a directory)");
    }
  }

  @Test
  void modesCreateAndTruncate() throws IOException {
    Path path = directory.resolve("new");
    try (NativeFile file = NativeFile.open(path, Mode.WRITE_CREATE_EXCLUSIVE)) {
      file.writeBytesAt("hello".getBytes(StandardCharsets.US_ASCII), 2);
      file.sync();
    }
    assertThat(path).hasBinaryContent(new byte[] {0, 0, 'h', 'e', 'l', 'l', 'o'});
    try (NativeFile file = NativeFile.open(path, Mode.READ_WRITE_CREATE)) {
      assertThat(file.readBytesAt(0, 3)).containsExactly(0, 0, 'h');
      file.truncate(4);
      assertThat(file.sizeBytes()).isEqualTo(4);
    }
    NativeFile.open(path, Mode.WRITE_CREATE_TRUNCATE).close();
    assertThat(path).isEmptyFile();
    NativeFile.syncDirectory(directory);
    assertThatThrownBy(() -> NativeFile.syncDirectory(path)).hasMessageContaining("ENOTDIR");
  }

  @Test
  void aFifoWithoutAWriterIsOpenedAndRecognised() throws Exception {
    Path fifo = directory.resolve("fifo");
    assertThat(
            Programs.run(Duration.ofSeconds(20), Map.of(), List.of("mkfifo", fifo.toString()))
                .status())
        .isZero();
    try (NativeFile file = NativeFile.open(fifo, Mode.READ)) {
      assertThat(file.isRegularFile()).isFalse();
      assertThatThrownBy(() -> file.readBytesAt(0, 1)).hasMessageContaining("ESPIPE");
    }
  }

  @Test
  void aBlockDeviceTellsItsSize() throws Exception {
    Requirement.root();
    Requirement.program("losetup", "util-linux");
    Path image = directory.resolve("image");
    try (NativeFile file = NativeFile.open(image, Mode.READ_WRITE_CREATE)) {
      file.truncate(3 << 20);
    }
    Programs.Ended loop =
        Programs.run(
            Duration.ofSeconds(20),
            Map.of(),
            List.of("losetup", "--show", "--find", image.toString()));
    Requirement.that(loop.status() == 0, "a loop device: " + loop.output());
    String device = loop.output().strip();
    try (NativeFile file = NativeFile.open(device, Mode.READ)) {
      assertThat(file.isBlockDevice()).isTrue();
      assertThat(file.isRegularFile()).isFalse();
      assertThat(file.sizeBytes()).isEqualTo(3 << 20);
    } finally {
      Programs.run(Duration.ofSeconds(20), Map.of(), List.of("losetup", "--detach", device));
    }
  }

  @Test
  void interruptsNeitherCloseNorFail() throws IOException {
    try (NativeFile file = NativeFile.open(file("abc"), Mode.READ)) {
      Thread.currentThread().interrupt();
      try {
        assertThat(file.readBytesAt(0, 3)).containsExactly('a', 'b', 'c');
      } finally {
        assertThat(Thread.interrupted()).isTrue();
      }
      assertThat(file.readBytesAt(1, 1)).containsExactly('b');
    }
  }

  @Test
  void identityFollowsTheFileNotTheName() throws IOException {
    Path path = file("abc");
    Instant written = Instant.parse("2024-02-03T04:05:06.123456789Z");
    Files.setLastModifiedTime(path, FileTime.from(written));
    try (NativeFile first = NativeFile.open(path, Mode.READ);
        NativeFile again = NativeFile.open(path.toString(), Mode.READ)) {
      FileIdentity identity = first.identity();
      assertThat(identity).isEqualTo(again.identity());
      assertThat(identity.sizeBytes()).isEqualTo(3);
      assertThat(identity.inode()).isEqualTo(Files.getAttribute(path, "unix:ino"));
      assertThat(identity.mtimeNanos())
          .isEqualTo(written.getEpochSecond() * 1_000_000_000L + 123_456_789);
      Files.move(path, directory.resolve("moved"));
      assertThat(first.identity()).isEqualTo(identity);
      Files.writeString(path, "abc");
      try (NativeFile other = NativeFile.open(path, Mode.READ)) {
        assertThat(other.identity()).isNotEqualTo(identity);
      }
    }
  }

  @Test
  void closesOnceAndRefusesUseAfterwards() throws IOException {
    NativeFile file = NativeFile.open(file("abc"), Mode.READ);
    int fd = file.fd();
    file.close();
    try (NativeFile taker = NativeFile.open(file("abc"), Mode.READ)) {
      assertThat(taker.fd()).as("the number is free and handed out again").isEqualTo(fd);
      file.close();
      assertThat(taker.readBytesAt(0, 1)).containsExactly('a');
    }
    assertThatThrownBy(() -> file.readBytesAt(0, 1))
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("is closed");
  }

  @Test
  void adoptsDuplicatesAndReleases() throws IOException {
    NativeFile original = NativeFile.open(file("abc"), Mode.READ);
    try (NativeFile copy = original.dup()) {
      assertThat(copy.fd()).isNotEqualTo(original.fd());
      original.close();
      int fd = copy.release();
      try (NativeFile adopted = NativeFile.adopt(fd, "fd:snapshot")) {
        assertThat(adopted.name()).isEqualTo("fd:snapshot");
        assertThat(adopted.readBytesAt(0, 1)).containsExactly('a');
        assertThatThrownBy(() -> adopted.readBytesAt(0, 4))
            .hasMessageStartingWith("fd:snapshot ends early");
      }
    }
  }

  @Test
  void mapsForReading() throws IOException {
    long page = MemoryMapping.basePageSizeBytes();
    Path path = directory.resolve("file");
    byte[] content = new byte[(int) page + 5];
    content[(int) page] = 42;
    Files.write(path, content);
    NativeFile file = NativeFile.open(path, Mode.READ);
    assertThatThrownBy(() -> file.map(1, 5)).isInstanceOf(IllegalArgumentException.class);
    try (MemoryMapping mapping = file.map(page, 5)) {
      file.close();
      assertThat(mapping.asSegment().toArray(ValueLayout.JAVA_BYTE))
          .containsExactly(42, 0, 0, 0, 0);
    }
    assertThatThrownBy(() -> file.map(0, 5)).isInstanceOf(IllegalStateException.class);
  }

  @Test
  void namesBeyondAsciiAndNamesWithANul() throws IOException {
    Path path = directory.resolve("sch\u00f6n-\u96ea");
    Files.writeString(path, "x");
    NativeFile.open(path, Mode.READ).close();
    NativeFile.open(path.toString(), Mode.READ).close();
    assertThatThrownBy(() -> NativeFile.open("a\0b", Mode.READ))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("NUL");
  }

  @Test
  void directIoConcernsOneOpenFileAlone() throws IOException {
    Path path = Files.write(directory.resolve("direct"), new byte[8192]);
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.READ);
        NativeFile other = file.reopen(NativeFile.Mode.READ);
        MemoryMapping into = MemoryMapping.anonymous(8192)) {
      other.setDirectIo(true);
      assertThat(FileDescriptors.statusFlags(other.fd()) & O_DIRECT).isEqualTo(O_DIRECT);
      assertThat(FileDescriptors.statusFlags(file.fd()) & O_DIRECT).isZero();
      other.readFullyAt(into.address(), 4096, 4096);
      assertThatThrownBy(() -> other.readFullyAt(into.address(), 100, 3))
          .isInstanceOf(ErrnoException.class)
          .hasMessageContaining("EINVAL");
      other.setDirectIo(false);
      other.readFullyAt(into.address(), 100, 3);
    }
  }

  @Test
  void aFileSystemWithoutDirectIoIsNamed() throws IOException {
    try (NativeFile file = NativeFile.open(Path.of("/proc/self/status"), NativeFile.Mode.READ)) {
      assertThatThrownBy(() -> file.setDirectIo(true))
          .isInstanceOf(IOException.class)
          .hasMessageMatching(
              "the file system of /proc/self/status has no direct I/O: switch direct-io off"
                  + " \\(fcntl\\(F_SETFL\\) of fd [0-9]+: EINVAL \\(Invalid argument\\)\\)");
      file.setDirectIo(false);
    }
  }
}
