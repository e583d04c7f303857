package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.CuttingNetwork;
import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.PostcopydProcess;
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
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * A stock QEMU whose guest is on its way into a snapshot, and whose connection is cut behind any
 * byte, or whose sink is killed: again and again within one migration. In the end another QEMU
 * loads the snapshot, and its guest checks every page.
 *
 * <p>{@code -Dpostcopyd.soak=N} says how many cuts there are (each way), {@code
 * -Dpostcopyd.soak.seed=N} chooses the bytes.
 */
class SinkRecoveryE2E {
  private static final int CUTS = Integer.getInteger("postcopyd.soak", 3);
  private static final int KILLS = Math.min(10, Integer.getInteger("postcopyd.soak", 2));
  private static final long SEED = Long.getLong("postcopyd.soak.seed", System.nanoTime() & 0xffff);
  private static final QemuOptions MACHINE = QemuOptions.of("pc", 128, 40);
  private static final long PAGES = (40 + 8 + 8 + 8) * 256L;

  /** What there is to send after the switch-over, or a little more. */
  private static final int ALL_BYTES = 60 << 20;

  private static QemuLab lab;
  private static Path snapshots;

  /** For sockets: their paths must be short. */
  @TempDir Path directory;

  @BeforeAll
  static void findLab() throws IOException {
    lab = QemuLab.require();
    snapshots = Files.createTempDirectory(lab.root().resolve("daemon/target"), "e2e");
    System.out.println("SinkRecoveryE2E: -Dpostcopyd.soak.seed=" + SEED);
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

  private static List<String> capabilities(boolean preempt) {
    return preempt ? List.of("postcopy-ram", "postcopy-preempt") : List.of("postcopy-ram");
  }

  private static long bytes(Random random, int number) {
    return CuttingNetwork.cutAfter(random, number, ALL_BYTES, CUTS);
  }

  @ParameterizedTest
  @CsvSource({"false, false", "true, false", "false, true", "true, true"})
  void snapshotIsWholeWhereverItWasCut(boolean preempt, boolean tcp) throws Exception {
    Path file = Files.createTempDirectory(snapshots, "cut").resolve("vm.mr");
    Random random = new Random(SEED + (preempt ? 1 : 0) + (tcp ? 2 : 0));
    StringBuilder story = new StringBuilder("seed " + SEED);
    Path qmp = directory.resolve("qmp");
    try (Daemon _ =
            Daemon.start(
                DaemonConfig.of(List.of(dev.postcopyd.control.SocketSpec.parse("unix:" + qmp)))
                    .withGuest(GuestSpec.parse("file:" + file)));
        QmpConnection sink = QmpConnection.to(qmp);
        CuttingNetwork network = new CuttingNetwork(directory, tcp);
        QemuProcess qemu = QemuProcess.start(lab, MACHINE, directory)) {
      sink.enableCapabilities(capabilities(preempt));
      startPostcopy(qemu, sink, network, preempt);
      network.proxy().cutAfter(bytes(random, 0));
      for (int number = 1; number <= CUTS; number++) {
        qemu.qmp().awaitMigration("postcopy-paused");
        story.append(", cut at ").append(network.proxy().carried());
        recover(qemu, sink, network, number == CUTS ? -1 : bytes(random, number));
      }
      sink.awaitMigration("completed");
      qemu.qmp().awaitMigration("completed");
      assertThat(sink.execute("query-migrate").path("ram").path("remaining").asLong())
          .as("%s", story)
          .isZero();
      qemu.quit();
    } catch (IOException | java.util.concurrent.TimeoutException e) {
      throw new AssertionError(story.toString(), e);
    }
    assertGuestIsWhole(file, story.toString());
  }

  /** The source goes to the sink by way of the network, and is switched over. */
  private void startPostcopy(
      QemuProcess qemu, QmpConnection sink, CuttingNetwork network, boolean preempt)
      throws Exception {
    qemu.console().awaitFilled();
    qemu.qmp().enableCapabilities(capabilities(preempt));
    qemu.qmp()
        .execute(
            "migrate-set-parameters",
            Map.of("max-bandwidth", 20 << 20, "max-postcopy-bandwidth", 30 << 20));
    sink.execute("migrate-incoming", Map.of("uri", network.destination()));
    qemu.qmp().execute("migrate", Map.of("uri", network.source(sink)));
    sink.awaitMigration("active");
    qemu.console().write(500);
    qemu.qmp().execute("migrate-start-postcopy");
    sink.awaitMigration("postcopy-active");
    qemu.qmp().awaitMigration("postcopy-active");
  }

  /**
   * @param cutAfter bytes of the new connection; negative: it holds
   */
  private static void recover(
      QemuProcess qemu, QmpConnection sink, CuttingNetwork network, long cutAfter)
      throws Exception {
    CuttingNetwork.awaitPaused(sink);
    sink.execute("migrate-recover", Map.of("uri", network.destination()));
    sink.awaitMigration("postcopy-recover-setup");
    String uri = network.source(sink);
    if (cutAfter >= 0) {
      network.proxy().cutAfter(cutAfter);
    } else {
      qemu.qmp().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
    }
    qemu.qmp().execute("migrate", Map.of("uri", uri, "resume", true));
  }

  /** Killed at any moment: another daemon finds the devices, and asks for all pages anew. */
  @Test
  void snapshotIsWholeHoweverOftenTheSinkWasKilled() throws Exception {
    Path file = Files.createTempDirectory(snapshots, "killed").resolve("vm.mr");
    Path state = file.resolveSibling(".vm.mr.partial.state");
    Path own = Files.createDirectory(directory.resolve("d"));
    Random random = new Random(SEED);
    StringBuilder story = new StringBuilder("seed " + SEED);
    try (QemuProcess qemu = QemuProcess.start(lab, MACHINE, directory)) {
      try (PostcopydProcess killed = PostcopydProcess.runIn(lab, own, "--guest", "file:" + file);
          CuttingNetwork network = new CuttingNetwork(directory, false)) {
        killed.qmp().enableCapabilities(List.of());
        startPostcopy(qemu, killed.qmp(), network, false);
        sleep(random, story);
      }
      for (int number = 1; number <= KILLS; number++) {
        qemu.qmp().awaitMigration("postcopy-paused");
        assertThat(file).as("%s", story).doesNotExist();
        assertThat(state).as("%s", story).exists();
        boolean last = number == KILLS;
        Path again = directory.resolve("again" + number);
        try (PostcopydProcess sink = PostcopydProcess.runIn(lab, own, "--guest", "file:" + file)) {
          assertThat(sink.qmp().execute("query-migrate").path("status").asString())
              .isEqualTo("postcopy-paused");
          sink.qmp().execute("migrate-recover", Map.of("uri", "unix:" + again));
          sink.qmp().awaitMigration("postcopy-recover-setup");
          if (last) {
            qemu.qmp().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
          }
          qemu.qmp().execute("migrate", Map.of("uri", "unix:" + again, "resume", true));
          if (last) {
            sink.qmp().awaitMigration("completed");
            qemu.qmp().awaitMigration("completed");
          } else {
            sleep(random, story);
          }
        }
      }
      assertThat(state).doesNotExist();
      qemu.quit();
    }
    assertGuestIsWhole(file, story.toString());
  }

  private static void sleep(Random random, StringBuilder story) throws InterruptedException {
    int millis = random.nextInt(400);
    story.append(", killed after ").append(millis).append(" ms");
    Thread.sleep(millis);
  }

  private void assertGuestIsWhole(Path file, String story) throws Exception {
    try (QemuProcess destination = QemuProcess.load(lab, MACHINE, directory, "file:" + file)) {
      destination.console().awaitTick();
      GuestConsole.Verification found = destination.console().verifyAtRandom();
      assertThat(found.bad()).as("%s: %s", story, found).isZero();
      assertThat(found.pages()).isEqualTo(PAGES);
      destination.quit();
    }
  }
}
