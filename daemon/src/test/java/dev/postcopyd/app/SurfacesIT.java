package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.metrics.Readiness;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What a whole daemon says to those who ask whether it is ready, and lets clients name. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class SurfacesIT {
  @TempDir Path directory;

  private DaemonConfig config() {
    return DaemonConfig.of(List.of(SocketSpec.parse("unix:" + directory.resolve("qmp"))));
  }

  private static Readiness await(Daemon daemon, boolean ready, String words) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
    while (true) {
      Readiness now = daemon.readiness();
      if (now.isReady() == ready && now.words().contains(words)) {
        return now;
      }
      assertThat(System.nanoTime()).as(now.toString()).isLessThan(deadline);
      TimeUnit.MILLISECONDS.sleep(10);
    }
  }

  @Test
  void aQemuThatIsNotThereYetIsWaitedFor() throws Exception {
    Path monitor = directory.resolve("monitor");
    Daemon daemon = Daemon.start(config().withGuest(GuestSpec.parse("qemu:" + monitor)));
    try (daemon) {
      // At once: QEMU may be started only when this says yes.
      assertThat(daemon.readiness().isReady()).isTrue();
      assertThat(await(daemon, true, "there is no such socket").words())
          .startsWith("ok: QEMU's monitor");
    }
    assertThat(daemon.readiness()).isEqualTo(Readiness.notReady("the daemon is shutting down"));
  }

  @Test
  void whatIsNoQemuIsNotWaitedFor() throws Exception {
    Path monitor = directory.resolve("monitor");
    try (ServerSocketChannel other = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
      other.bind(UnixDomainSocketAddress.of(monitor));
      Thread.ofPlatform()
          .daemon()
          .start(() -> {
            try {
              while (true) {
                try (SocketChannel client = other.accept()) {
                  int _ =
                      client.write(
                          ByteBuffer.wrap(
                              "220 mail ready\r\n".getBytes(StandardCharsets.US_ASCII)));
                  int _ = client.read(ByteBuffer.allocate(100));
                }
              }
            } catch (java.io.IOException e) {
              // The test has ended.
            }
          });
      try (Daemon daemon = Daemon.start(config().withGuest(GuestSpec.parse("qemu:" + monitor)))) {
        Readiness _ = await(daemon, false, "QEMU's monitor at " + monitor);
      }
    }
  }

  @Test
  void aDaemonOverItsOwnMemoryIsReadyAfterTheSelfTest() throws Exception {
    try (Daemon daemon = Daemon.start(config())) {
      assertThat(await(daemon, true, "").words()).isEqualTo("ok");
    }
  }

  @Test
  void filesThatClientsNameStayBelowTheSnapshotDirectory() throws Exception {
    Path snapshots = Files.createDirectory(directory.resolve("snapshots"));
    Path outside = Files.copy(GoldenSnapshot.of("demo").file(), directory.resolve("outside.mr"));
    Files.copy(outside, snapshots.resolve("vm.mr"));
    Files.createSymbolicLink(snapshots.resolve("link.mr"), outside);
    try (Daemon _ = Daemon.start(config().withSnapshotDir(Optional.of(snapshots)))) {
      try (QmpConnection qmp = QmpConnection.to(directory.resolve("qmp"))) {
        qmp.enableCapabilities(List.of("mapped-ram"));
        for (String path :
            List.of(
                outside.toString(),
                snapshots + "/../outside.mr",
                snapshots + "/link.mr",
                "../outside.mr",
                "/proc/self/root" + outside)) {
          assertThatThrownBy(() -> qmp.execute("migrate-incoming", Map.of("uri", "file:" + path)))
              .as(path)
              .hasMessageContaining("refused, because it is not below " + snapshots);
        }
      }
      try (QmpConnection qmp = QmpConnection.to(directory.resolve("qmp"))) {
        // A relative one begins there.
        qmp.execute("migrate-incoming", Map.of("uri", "file:vm.mr"));
        qmp.awaitMigration("completed");

        qmp.execute("stop");
        qmp.execute("migrate", Map.of("uri", "file:" + directory.resolve("copy.mr")));
        assertThatThrownBy(() -> qmp.awaitMigration("completed")).hasMessageContaining("failed");
        assertThat(qmp.execute("query-migrate").path("error-desc").asString(""))
            .contains("it is not below " + snapshots);
      }
    }
    assertThat(directory.resolve("copy.mr")).doesNotExist();
    assertThat(directory.resolve(".copy.mr.partial")).doesNotExist();
  }

  @Test
  void aDirectoryThatIsNoneEndsTheStart() {
    assertThatThrownBy(
            () -> Daemon.start(config().withSnapshotDir(Optional.of(directory.resolve("missing")))))
        .hasMessage(directory.resolve("missing") + " is no directory");
  }
}
