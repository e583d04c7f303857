package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.lab.CuttingNetwork;
import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.page.RamBlock;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.concurrent.TimeoutException;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;

/**
 * A stock QEMU migrates into the daemon's memory, with threads that wait for its pages; what the
 * daemon saves of it another stock QEMU loads, and the guest checks every page of its memory.
 *
 * <p>{@code -Dpostcopyd.soak=N} says how often the connection is cut within one migration (each
 * way), {@code -Dpostcopyd.soak.seed=N} behind which bytes.
 */
class MemoryE2E {
  private static final int MEMORY_MIB = 128;
  private static final int DATA_MIB = 40;
  private static final int OTHER_AREAS_MIB = 8 + 8 + 8;
  private static final int PAGES_PER_MIB = 256;
  private static final int CUTS = Integer.getInteger("postcopyd.soak", 3);
  private static final long SEED = Long.getLong("postcopyd.soak.seed", System.nanoTime() & 0xffff);

  /** What there is to send after the switch-over, or a little more. */
  private static final int ALL_BYTES = 60 << 20;

  private static Path snapshots;
  private static QemuLab lab;

  /** For sockets: their paths must be short. */
  @TempDir Path directory;

  /**
   * One kind of migration.
   *
   * @param capabilities of both sides
   */
  record Kind(
      String name, boolean tcp, boolean postcopy, List<String> capabilities, Map<String, ?> both) {
    @Override
    public String toString() {
      return name;
    }
  }

  static Stream<Kind> kinds() {
    return Stream.of(
        new Kind("many rounds", true, false, List.of("return-path"), Map.of()),
        new Kind("xbzrle", false, false, List.of("xbzrle"), Map.of()),
        new Kind(
            "multifd",
            false,
            false,
            List.of("multifd", "return-path"),
            Map.of("multifd-channels", 2)),
        new Kind("capability without use", false, false, List.of("postcopy-ram"), Map.of()),
        new Kind("postcopy", true, true, List.of("postcopy-ram"), Map.of()),
        new Kind("preempt", false, true, List.of("postcopy-ram", "postcopy-preempt"), Map.of()));
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

  private static QemuOptions machine() {
    return QemuOptions.of("pc", MEMORY_MIB, DATA_MIB);
  }

  private Daemon daemon(Path qmp) throws IOException {
    return Daemon.start(DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp))));
  }

  @ParameterizedTest
  @MethodSource("kinds")
  void guestIsReceivedSavedAndResumed(Kind kind) throws Exception {
    Path file = Files.createTempDirectory(snapshots, "kind").resolve("vm.mr");
    Path qmp = directory.resolve("qmp");
    try (Daemon daemon = daemon(qmp);
        QmpConnection sink = QmpConnection.to(qmp);
        QemuProcess qemu = QemuProcess.start(lab, machine(), directory)) {
      sink.enableCapabilities(kind.capabilities());
      qemu.console().awaitFilled();
      qemu.qmp().enableCapabilities(kind.capabilities());
      qemu.qmp().execute("migrate-set-parameters", Map.of("max-bandwidth", 40 << 20));
      if (!kind.both().isEmpty()) {
        sink.execute("migrate-set-parameters", kind.both());
        qemu.qmp().execute("migrate-set-parameters", kind.both());
      }
      migrate(qemu, sink, kind.tcp());
      sink.awaitMigration("active");
      qemu.console().write(300);
      if (kind.postcopy()) {
        qemu.qmp().execute("migrate-start-postcopy");
        sink.awaitMigration("postcopy-active");
        List<Thread> touchers = touch(daemon, 3, 200);
        assertDone(touchers);
      } else {
        Thread.sleep(300);
        qemu.console().write(200);
        qemu.qmp().execute("migrate-set-parameters", Map.of("max-bandwidth", 0));
      }
      awaitCompleted(qemu, sink);
      JsonNode info = sink.execute("query-migrate");
      assertThat(info.path("ram").path("remaining").asLong()).isZero();
      JsonNode ram = info.path("ram");
      long transferred = ram.path("transferred").asLong();
      assertThat(transferred).isGreaterThan(DATA_MIB * 1000000L);
      assertThat(ram.path("multifd-bytes").asLong() > 0).isEqualTo(kind.name().equals("multifd"));
      assertThat(ram.path("postcopy-bytes").asLong() > 0).isEqualTo(kind.postcopy());
      assertThat(
              ram.path("precopy-bytes").asLong()
                  + ram.path("postcopy-bytes").asLong()
                  + ram.path("multifd-bytes").asLong())
          .isEqualTo(transferred);
      save(sink, file);
      qemu.quit();
    }
    assertGuestIsWhole(file);
  }

  /** The connection is cut behind any byte, again and again, while RAM comes and is waited for. */
  @ParameterizedTest
  @CsvSource({"false, false", "true, false", "false, true", "true, true"})
  void guestOutlivesLostConnections(boolean preempt, boolean tcp) throws Exception {
    Path file = Files.createTempDirectory(snapshots, "cut").resolve("vm.mr");
    Path qmp = directory.resolve("qmp");
    List<String> capabilities =
        preempt ? List.of("postcopy-ram", "postcopy-preempt") : List.of("postcopy-ram");
    Random random = new Random(SEED + (preempt ? 1 : 0) + (tcp ? 2 : 0));
    StringBuilder story = new StringBuilder("seed " + SEED);
    try (Daemon daemon = daemon(qmp);
        QmpConnection memory = QmpConnection.to(qmp);
        CuttingNetwork network = new CuttingNetwork(directory, tcp);
        QemuProcess qemu = QemuProcess.start(lab, machine(), directory)) {
      memory.enableCapabilities(capabilities);
      qemu.console().awaitFilled();
      qemu.qmp().enableCapabilities(capabilities);
      qemu.qmp()
          .execute(
              "migrate-set-parameters",
              Map.of("max-bandwidth", 20 << 20, "max-postcopy-bandwidth", 10 << 20));
      memory.execute("migrate-incoming", Map.of("uri", network.destination()));
      qemu.qmp().execute("migrate", Map.of("uri", network.source(memory)));
      memory.awaitMigration("active");
      qemu.qmp().execute("migrate-start-postcopy");
      memory.awaitMigration("postcopy-active");
      qemu.qmp().awaitMigration("postcopy-active");
      List<Thread> touchers = touch(daemon, 3, preempt ? 2000 : 60);
      network.proxy().cutAfter(CuttingNetwork.cutAfter(random, 0, ALL_BYTES, CUTS));
      for (int number = 1; number <= CUTS; number++) {
        qemu.qmp().awaitMigration("postcopy-paused");
        story.append(", cut at ").append(network.proxy().carried());
        recover(
            qemu,
            memory,
            network,
            number == CUTS ? -1 : CuttingNetwork.cutAfter(random, number, ALL_BYTES, CUTS));
      }
      qemu.qmp().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
      assertDone(touchers);
      awaitCompleted(qemu, memory);
      JsonNode ram = memory.execute("query-migrate").path("ram");
      assertThat(ram.path("remaining").asLong(-1)).as("%s", story).isZero();
      assertThat(ram.path("postcopy-requests").asLong()).as("%s", story).isPositive();
      save(memory, file);
      qemu.quit();
    } catch (IOException | TimeoutException e) {
      throw new AssertionError(story.toString(), e);
    }
    System.out.println("MemoryE2E: preempt=" + preempt + " tcp=" + tcp + " " + story);
    assertGuestIsWhole(file);
  }

  /**
   * Goes on with a guest whose connection was cut.
   *
   * @param cutAfter bytes of the new connection; negative: it holds
   */
  private static void recover(
      QemuProcess qemu, QmpConnection memory, CuttingNetwork network, long cutAfter)
      throws Exception {
    CuttingNetwork.awaitPaused(memory);
    memory.execute("migrate-recover", Map.of("uri", network.destination()));
    memory.awaitMigration("postcopy-recover-setup");
    String uri = network.source(memory);
    if (cutAfter >= 0) {
      network.proxy().cutAfter(cutAfter);
    }
    qemu.qmp().execute("migrate", Map.of("uri", uri, "resume", true));
  }

  private void migrate(QemuProcess qemu, QmpConnection sink, boolean tcp) throws Exception {
    String wanted = tcp ? "tcp:127.0.0.1:0" : "unix:" + directory.resolve("mig");
    sink.execute("migrate-incoming", Map.of("uri", wanted));
    String uri = wanted;
    if (tcp) {
      JsonNode address = sink.execute("query-migrate").path("socket-address").path(0);
      uri = "tcp:127.0.0.1:" + address.path("port").asString();
    }
    qemu.qmp().execute("migrate", Map.of("uri", uri));
  }

  private static void awaitCompleted(QemuProcess qemu, QmpConnection sink) throws Exception {
    try {
      sink.awaitMigration("completed");
    } catch (IOException e) {
      throw new IOException("the source says: " + qemu.qmp().execute("query-migrate"), e);
    }
    qemu.qmp().awaitMigration("completed");
  }

  /** Touches pages of all of RAM, as a guest would. */
  private static List<Thread> touch(Daemon daemon, int threads, int pagesEach) {
    LocalGuest memory = daemon.guest().orElseThrow();
    RamBlock ram = Objects.requireNonNull(memory.table().byName("pc.ram"));
    List<Thread> touchers = new ArrayList<>();
    for (int i = 0; i < threads; i++) {
      Random random = new Random(i);
      touchers.add(
          Thread.ofPlatform()
              .daemon()
              .start(() -> {
                for (int n = 0; n < pagesEach; n++) {
                  long page = random.nextLong(ram.pageCount());
                  int errno = memory.memoryOf(ram).populateRead(page * 4096, 4096);
                  assertThat(errno).isZero();
                }
              }));
    }
    return touchers;
  }

  private static void assertDone(List<Thread> touchers) throws InterruptedException {
    for (Thread toucher : touchers) {
      assertThat(toucher.join(Duration.ofSeconds(60))).as("pages have come").isTrue();
    }
  }

  private static void save(QmpConnection sink, Path file) throws Exception {
    sink.execute(
        "migrate-set-capabilities",
        Map.of(
            "capabilities",
            List.of(
                Map.of("capability", "xbzrle", "state", false),
                Map.of("capability", "mapped-ram", "state", true))));
    sink.execute("migrate", Map.of("uri", "file:" + file));
    sink.awaitMigration("completed");
  }

  private void assertGuestIsWhole(Path file) throws Exception {
    try (QemuProcess destination = QemuProcess.load(lab, machine(), directory, "file:" + file)) {
      destination.console().awaitTick();
      GuestConsole.Verification found = destination.console().verifyAtRandom();
      assertThat(found.bad()).as("%s", found).isZero();
      assertThat(found.pages()).isEqualTo((long) (DATA_MIB + OTHER_AREAS_MIB) * PAGES_PER_MIB);
      destination.quit();
    }
  }
}
