package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import dev.postcopyd.lab.QmpConnection;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import tools.jackson.databind.JsonNode;

/**
 * The whole chain: a stock QEMU sends its guest into a snapshot, and another one, driven through
 * its monitor, is resumed from that lazily; also with what stands beside RAM, which has to arrive,
 * too.
 */
class SinkChainE2E {
  private static final int MEMORY_MIB = 128;
  private static final int DATA_MIB = 40;
  private static final long PAGES = (DATA_MIB + 8 + 8 + 8) * 256L;
  private static final int WRITTEN_BYTES = 3 << 16;

  private static QemuLab lab;
  private static Path snapshots;

  /** For sockets: their paths must be short. */
  @TempDir Path directory;

  /** What is special about a snapshot. */
  enum Kind {
    BACKGROUND,
    DIRTY_BITMAPS,
    VIRTIO_MEM;

    QemuOptions machine() {
      return switch (this) {
        case BACKGROUND -> QemuOptions.of("pc", MEMORY_MIB, DATA_MIB);
        case DIRTY_BITMAPS ->
            QemuOptions.of("pc", MEMORY_MIB, DATA_MIB)
                .with("-blockdev", "driver=null-co,size=1048576,node-name=disk0")
                .with("-device", "virtio-blk-pci,drive=disk0,share-rw=on");
        case VIRTIO_MEM ->
            QemuOptions.of("q35", 2 * MEMORY_MIB, DATA_MIB)
                .with("-m", 2 * MEMORY_MIB + "M,maxmem=1G,slots=4")
                .with("-object", "memory-backend-ram,id=vm0,size=128M")
                .with("-device", "virtio-mem-pci,id=vmem0,memdev=vm0,requested-size=64M");
      };
    }

    List<String> capabilities() {
      return switch (this) {
        case BACKGROUND -> List.of("background-snapshot");
        case DIRTY_BITMAPS -> List.of("dirty-bitmaps");
        case VIRTIO_MEM -> List.of();
      };
    }
  }

  @BeforeAll
  static void findLab() throws IOException {
    lab = QemuLab.require();
    snapshots = Files.createTempDirectory(lab.root().resolve("daemon/target"), "e2e");
  }

  @AfterAll
  static void deleteSnapshots() throws IOException {
    if (snapshots != null) {
      try (Stream<Path> files = Files.walk(snapshots)) {
        for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
          Files.delete(file);
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void snapshotOfALiveGuestIsResumedLazily(Kind kind) throws Exception {
    Path file = Files.createTempDirectory(snapshots, "chain").resolve("vm.mr");
    receive(kind, file);
    Path monitor = directory.resolve("monitor");
    Path qmp = directory.resolve("qmp2");
    QemuOptions machine =
        kind.machine()
            .with("-incoming", "defer", "-qmp", "unix:" + monitor + ",server=on,wait=off");
    try (QemuProcess qemu = QemuProcess.start(lab, machine, directory);
        Daemon _ =
            Daemon.start(
                DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
                    .withGuest(GuestSpec.parse("qemu:" + monitor)));
        QmpConnection daemon = QmpConnection.to(qmp)) {
      daemon.enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
      daemon.execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 32 << 20));
      daemon.execute("migrate-incoming", Map.of("uri", "file:" + file));
      daemon.awaitMigration("postcopy-active");
      if (kind != Kind.BACKGROUND) {
        // It was stopped when it was saved.
        daemon.execute("cont");
      }
      qemu.console().awaitTick();
      // It runs, and much is still to come: that is what lazily means.
      JsonNode info = daemon.execute("query-migrate");
      assertThat(info.path("status").asString()).isEqualTo("postcopy-active");
      assertThat(info.path("ram").path("remaining").asLong()).isPositive();
      daemon.execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
      daemon.awaitMigration("completed");
      GuestConsole.Verification found = qemu.console().verifyAtRandom();
      assertThat(found.bad()).as("%s", found).isZero();
      assertThat(found.pages()).isEqualTo(PAGES);
      assertArrived(kind, qemu);
    }
  }

  private void receive(Kind kind, Path file) throws Exception {
    Path qmp = directory.resolve("qmp1");
    String uri = "unix:" + directory.resolve("mig");
    try (Daemon _ =
            Daemon.start(
                DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
                    .withGuest(GuestSpec.parse("file:" + file)));
        QmpConnection sink = QmpConnection.to(qmp);
        QemuProcess qemu = QemuProcess.start(lab, kind.machine(), directory)) {
      qemu.console().awaitFilled();
      if (kind == Kind.DIRTY_BITMAPS) {
        qemu.qmp().execute("block-dirty-bitmap-add", Map.of("node", "disk0", "name", "bitmap0"));
        qemu.qmp()
            .execute(
                "human-monitor-command",
                Map.of("command-line", "qemu-io disk0 \"write 65536 " + WRITTEN_BYTES + "\""));
        assertThat(dirtyBytes(qemu)).isEqualTo(WRITTEN_BYTES);
      }
      if (kind != Kind.BACKGROUND) {
        qemu.qmp().execute("stop");
      }
      qemu.qmp().enableCapabilities(kind.capabilities());
      qemu.qmp().execute("migrate-set-parameters", Map.of("max-bandwidth", 0));
      sink.enableCapabilities(List.of());
      sink.execute("migrate-incoming", Map.of("uri", uri));
      qemu.qmp().execute("migrate", Map.of("uri", uri));
      sink.awaitMigration("completed");
      qemu.quit();
    }
  }

  private static void assertArrived(Kind kind, QemuProcess qemu) throws Exception {
    switch (kind) {
      case BACKGROUND -> {}
      case DIRTY_BITMAPS -> assertThat(dirtyBytes(qemu)).isEqualTo(WRITTEN_BYTES);
      case VIRTIO_MEM -> {
        JsonNode device = qemu.qmp().execute("query-memory-devices").path(0).path("data");
        assertThat(device.path("id").asString()).isEqualTo("vmem0");
        assertThat(device.path("requested-size").asLong()).isEqualTo(64L << 20);
      }
    }
  }

  private static long dirtyBytes(QemuProcess qemu) throws Exception {
    for (JsonNode node : qemu.qmp().execute("query-named-block-nodes")) {
      for (JsonNode bitmap : node.path("dirty-bitmaps")) {
        if (bitmap.path("name").asString().equals("bitmap0")) {
          return bitmap.path("count").asLong();
        }
      }
    }
    return -1;
  }
}
