package dev.postcopyd.lab;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The laboratory itself: a guest that survives QEMU's own save and load unharmed, and is able to
 * notice harm. Without the second half every other end-to-end test could pass for nothing.
 */
class QemuLabE2E {
  private static final QemuOptions SMALL = QemuOptions.of("pc", 192, 64);

  @TempDir Path directory;

  @Test
  void guestFindsItsMemoryWholeAfterQemusOwnSaveAndLoad() throws Exception {
    QemuLab lab = QemuLab.require();
    Path snapshot = directory.resolve("vm.mr");
    try (QemuProcess source = QemuProcess.start(lab, SMALL, directory)) {
      source.console().awaitFilled();
      source.qmp().execute("stop");
      source.save("file:" + snapshot, List.of("mapped-ram"));
      source.quit();
    }
    assertThat(Files.size(snapshot)).isGreaterThan(64 << 20);
    try (QemuProcess destination = QemuProcess.load(lab, SMALL, directory, "file:" + snapshot)) {
      destination.console().awaitTick();
      GuestConsole.Verification inOrder = destination.console().verify();
      assertThat(inOrder.bad()).as("%s", inOrder).isZero();
      assertThat(inOrder.pages()).isEqualTo((64 + 8 + 8 + 8) * 256);
      assertThat(destination.console().verifyAtRandom().bad()).isZero();
      destination.quit();
    }
  }

  @Test
  void guestFindsItsMemoryWholeInQemu11() throws Exception {
    QemuLab lab = QemuLab.require();
    QemuLab lab11 = lab.withQemu11();
    QemuOptions options = QemuOptions.of("pc-i440fx-10.0", 192, 64).withCpus(2);
    Path snapshot = directory.resolve("vm.mr");
    try (QemuProcess source = QemuProcess.start(lab, options, directory)) {
      source.console().awaitFilled();
      source.qmp().execute("stop");
      source.save("file:" + snapshot, List.of("mapped-ram"));
      source.quit();
    }
    try (QemuProcess destination =
        QemuProcess.load(lab11, options, directory, "file:" + snapshot)) {
      assertThat(destination.qmp().execute("query-version").path("qemu").path("major").asInt())
          .isGreaterThanOrEqualTo(11);
      destination.console().awaitTick();
      GuestConsole.Verification found = destination.console().verifyAtRandom();
      assertThat(found.bad()).as("%s", found).isZero();
      assertThat(found.cpus()).isEqualTo(2);
      destination.quit();
    }
  }

  @Test
  void guestNoticesOneFlippedBit() throws Exception {
    QemuLab lab = QemuLab.require();
    Path snapshot = directory.resolve("vm.mr");
    try (QemuProcess source = QemuProcess.start(lab, SMALL, directory)) {
      source.console().awaitFilled();
      source.qmp().execute("stop");
      source.save("file:" + snapshot, List.of("mapped-ram"));
      source.quit();
    }
    flipOneBitOfADataPage(snapshot);
    try (QemuProcess destination = QemuProcess.load(lab, SMALL, directory, "file:" + snapshot)) {
      assertThat(destination.console().verify().bad()).isEqualTo(1);
      destination.quit();
    }
  }

  /**
   * Data pages are known by their words: the third one is the complement of the first, in every
   * group of four.
   */
  private static void flipOneBitOfADataPage(Path snapshot) throws IOException {
    ByteBuffer page = ByteBuffer.allocate(4096).order(ByteOrder.LITTLE_ENDIAN);
    try (FileChannel file =
        FileChannel.open(snapshot, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      for (long offset = file.size() / 8192 * 4096; offset > 0; offset -= 4096) {
        file.read(page.clear(), offset);
        long first = page.getLong(0);
        if (first != 0 && page.getLong(16) == ~first && page.getLong(8) == first * 3) {
          ByteBuffer changed = ByteBuffer.wrap(new byte[] {(byte) (page.get(1000) ^ 0x10)});
          file.write(changed, offset + 1000);
          return;
        }
      }
    }
    throw new AssertionError("no data page in the first half of " + snapshot);
  }
}
