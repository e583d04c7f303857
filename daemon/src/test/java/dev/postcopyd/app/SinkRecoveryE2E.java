package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.CuttingProxy;
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
import java.util.Objects;
import java.util.Random;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
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

  /** The network, anew for each connection: where the sink listens, and where QEMU goes. */
  private final class Network implements AutoCloseable {
    private final boolean tcp;
    private @Nullable CuttingProxy proxy;
    private int number;

    Network(boolean tcp) {
      this.tcp = tcp;
    }

    /** Where the sink is to listen. */
    String sink() {
      number++;
      return tcp ? "tcp:127.0.0.1:0" : "unix:" + directory.resolve("sink" + number);
    }

    /** Where the source is to go, once the sink listens. */
    String source(QmpConnection sink) throws Exception {
      close();
      if (tcp) {
        proxy =
            CuttingProxy.tcp(
                sink.execute("query-migrate").path("socket-address").path(0).path("port").asInt());
      } else {
        proxy =
            CuttingProxy.unix(
                directory.resolve("net" + number), directory.resolve("sink" + number));
      }
      return proxy().uri();
    }

    CuttingProxy proxy() {
      return Objects.requireNonNull(proxy);
    }

    @Override
    public void close() throws IOException {
      CuttingProxy old = proxy;
      if (old != null) {
        old.close();
      }
    }
  }

  /** Also in the middle of a recovery, and of its first words. */
  private static long bytes(Random random, int number) {
    return switch (number % 4) {
      case 0 -> 1 + random.nextInt(ALL_BYTES / Math.max(4, CUTS));
      case 1 -> 1 + random.nextInt(4104);
      case 2 -> 1 + random.nextInt(ALL_BYTES / Math.max(4, CUTS));
      default -> 1 + random.nextInt(120);
    };
  }

  @ParameterizedTest
  @CsvSource({"false, false", "true, false", "false, true", "true, true"})
  void snapshotIsWholeWhereverItWasCut(boolean preempt, boolean tcp) throws Exception {
    Path file = Files.createTempDirectory(snapshots, "cut").resolve("vm.mr");
    Random random = new Random(SEED + (preempt ? 1 : 0) + (tcp ? 2 : 0));
    StringBuilder story = new StringBuilder("seed " + SEED);
    Path qmp = directory.resolve("qmp");
    try (Daemon daemon =
            Daemon.start(
                DaemonConfig.of(List.of(dev.postcopyd.control.SocketSpec.parse("unix:" + qmp)))
                    .withGuest(GuestSpec.parse("file:" + file)));
        QmpConnection sink = QmpConnection.to(qmp);
        Network network = new Network(tcp);
        QemuProcess qemu = QemuProcess.start(lab, MACHINE, directory)) {
      sink.enableCapabilities(capabilities(preempt));
      startPostcopy(qemu, sink, network, preempt);
      network.proxy().cutAfter(bytes(random, 0));
      for (int number = 1; number <= CUTS; number++) {
        qemu.qmp().awaitMigration("postcopy-paused");
        story.append(", cut at ").append(network.proxy().carried());
        recover(qemu, sink, daemon, network, number == CUTS ? -1 : bytes(random, number));
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
  private void startPostcopy(QemuProcess qemu, QmpConnection sink, Network network, boolean preempt)
      throws Exception {
    qemu.console().awaitFilled();
    qemu.qmp().enableCapabilities(capabilities(preempt));
    qemu.qmp()
        .execute(
            "migrate-set-parameters",
            Map.of("max-bandwidth", 20 << 20, "max-postcopy-bandwidth", 30 << 20));
    sink.execute("migrate-incoming", Map.of("uri", network.sink()));
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
      QemuProcess qemu, QmpConnection sink, Daemon daemon, Network network, long cutAfter)
      throws Exception {
    // A break within a recovery has events of its own: what counts is where it is now.
    long deadline = System.nanoTime() + 20_000_000_000L;
    while (!daemon.status().wireName().equals("postcopy-paused") && System.nanoTime() < deadline) {
      // A recovery whose source never came waits for it.
      if (daemon.status().wireName().equals("postcopy-recover")) {
        sink.execute("migrate-pause");
      }
      Thread.sleep(5);
    }
    assertThat(daemon.status().wireName()).isEqualTo("postcopy-paused");
    sink.execute("migrate-recover", Map.of("uri", network.sink()));
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
          Network network = new Network(false)) {
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
