package dev.postcopyd.fds;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

/** With real descriptors. The texts were answered by QEMU 10.0.2. */
class NamedDescriptorsIT {
  private final NamedDescriptors names = new NamedDescriptors();

  private static int descriptor(String content) throws IOException {
    try (NativeFile file = NativeFile.memfd(content)) {
      return file.release();
    }
  }

  private static boolean isOpen(int fd) {
    return Files.exists(Path.of("/proc/self/fd/" + fd), java.nio.file.LinkOption.NOFOLLOW_LINKS);
  }

  @Test
  void takingConsumesTheName() throws Exception {
    int fd = descriptor("a");
    names.put("snap", fd);

    assertThat(names.take("snap")).isEqualTo(fd);
    assertThat(isOpen(fd)).isTrue();
    assertThatThrownBy(() -> names.take("snap"))
        .isInstanceOf(DescriptorException.class)
        .hasMessage("File descriptor named 'snap' has not been found");
    FileDescriptors.close(fd);
  }

  @Test
  void replacingClosesTheOldOne() throws Exception {
    int old = descriptor("old");
    int replacement = descriptor("new");
    names.put("snap", old);
    names.put("snap", replacement);

    assertThat(isOpen(old)).isFalse();
    assertThat(names.size()).isEqualTo(1);
    assertThat(names.take("snap")).isEqualTo(replacement);
    FileDescriptors.close(replacement);
  }

  @Test
  void droppingCloses() throws Exception {
    int fd = descriptor("a");
    names.put("snap", fd);
    names.drop("snap");

    assertThat(isOpen(fd)).isFalse();
    assertThatThrownBy(() -> names.drop("snap"))
        .isInstanceOf(DescriptorException.class)
        .hasMessage("File descriptor named 'snap' not found");
  }

  @Test
  void aNameThatBeginsWithADigitIsRefusedAndItsDescriptorClosed() throws Exception {
    int fd = descriptor("a");

    assertThatThrownBy(() -> names.put("1x", fd))
        .isInstanceOf(DescriptorException.class)
        .hasMessage("Parameter 'fdname' expects a name not starting with a digit");
    assertThat(isOpen(fd)).isFalse();
  }

  @Test
  void theEmptyNameIsANameAsWithQemu() throws Exception {
    int fd = descriptor("a");
    names.put("", fd);

    assertThat(names.take("")).isEqualTo(fd);
    FileDescriptors.close(fd);
  }

  @Test
  void closingClosesAllAndWhateverComesLater() throws Exception {
    int first = descriptor("a");
    int second = descriptor("b");
    int late = descriptor("c");
    names.put("a", first);
    names.put("b", second);
    names.close();
    names.put("c", late);

    assertThat(isOpen(first)).isFalse();
    assertThat(isOpen(second)).isFalse();
    assertThat(isOpen(late)).isFalse();
    assertThat(names.size()).isZero();
  }
}
