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
import java.util.ArrayList;
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
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

/**
 * Every kind of stream that a stock QEMU sends, received into a snapshot that another stock QEMU
 * then loads; its guest checks every page of its own memory.
 */
class SinkE2E {
  private static final int MEMORY_MIB = 128;
  private static final int DATA_MIB = 40;
  private static final int OTHER_AREAS_MIB = 8 + 8 + 8;
  private static final int PAGES_PER_MIB = 256;
  private static final int CUTS = 10;

  private static Path snapshots;
  private static QemuLab lab;

  /** For sockets: their paths must be short. */
  @TempDir Path directory;

  /** How a migration is sent. */
  enum Way {
    PLAIN,
    LIVE,
    POSTCOPY
  }

  /**
   * One kind of stream.
   *
   * @param source capabilities of the sending QEMU
   * @param sink capabilities here
   * @param parameters of the sending QEMU
   */
  record Kind(
      String name,
      QemuOptions machine,
      String channel,
      Way way,
      List<String> source,
      List<String> sink,
      Map<String, ?> parameters) {
    @Override
    public String toString() {
      return name;
    }
  }

  private static QemuOptions machine(String type) {
    return QemuOptions.of(type, MEMORY_MIB, DATA_MIB);
  }

  static Stream<Kind> kinds() {
    QemuOptions pc = machine("pc");
    QemuOptions old = machine("pc-i440fx-8.0");
    QemuOptions rich =
        machine("q35")
            .withCpus(2)
            .with("-vga", "std", "-nic", "user,model=e1000", "-device", "virtio-rng-pci")
            .with("-device", "qemu-xhci", "-device", "virtio-balloon-pci", "-device", "intel-hda");
    QemuOptions memory =
        QemuOptions.of("q35", 2 * MEMORY_MIB, DATA_MIB)
            .with("-m", 2 * MEMORY_MIB + "M,maxmem=1G,slots=4")
            .with("-object", "memory-backend-ram,id=vm0,size=128M")
            .with("-device", "virtio-mem-pci,id=vmem0,memdev=vm0,requested-size=64M");
    QemuOptions disk =
        pc.with("-blockdev", "driver=null-co,size=1048576,node-name=disk0")
            .with("-device", "virtio-blk-pci,drive=disk0");
    Map<String, ?> none = Map.of();
    Map<String, ?> two = Map.of("multifd-channels", 2);
    Map<String, ?> slow = Map.of("max-bandwidth", 40 << 20);
    List<String> nothing = List.of();
    List<String> path = List.of("return-path");
    List<String> multifd = List.of("multifd");
    List<String> postcopy = List.of("postcopy-ram");
    List<String> preempt = List.of("postcopy-ram", "postcopy-preempt");
    return Stream.of(
        new Kind("unix", pc, "unix", Way.PLAIN, nothing, nothing, none),
        new Kind("tcp, return path", pc, "tcp", Way.PLAIN, path, nothing, none),
        new Kind("live, many rounds", rich, "unix", Way.LIVE, path, nothing, slow),
        new Kind("xbzrle", pc, "unix", Way.LIVE, List.of("xbzrle"), nothing, slow),
        new Kind("multifd", pc, "tcp", Way.LIVE, List.of("multifd", "return-path"), multifd, two),
        new Kind("multifd, unannounced", pc, "unix", Way.LIVE, multifd, nothing, two),
        new Kind("multifd of old machines", old, "unix", Way.LIVE, multifd, multifd, two),
        new Kind(
            "zero pages as data",
            pc,
            "unix",
            Way.PLAIN,
            nothing,
            nothing,
            Map.of("zero-page-detection", "none")),
        new Kind(
            "background snapshot",
            pc,
            "unix",
            Way.LIVE,
            List.of("background-snapshot"),
            nothing,
            none),
        new Kind("postcopy", pc, "unix", Way.POSTCOPY, postcopy, postcopy, slow),
        new Kind("postcopy, 2 vCPUs", rich, "tcp", Way.POSTCOPY, postcopy, postcopy, slow),
        new Kind("postcopy, preempt", pc, "unix", Way.POSTCOPY, preempt, preempt, slow),
        new Kind("dirty bitmaps", disk, "unix", Way.PLAIN, List.of("dirty-bitmaps"), nothing, none),
        new Kind("virtio-mem", memory, "unix", Way.PLAIN, nothing, nothing, none),
        new Kind(
            "suppress-vmdesc, return path",
            machine("pc,suppress-vmdesc=on"),
            "unix",
            Way.PLAIN,
            path,
            nothing,
            none));
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
  @MethodSource("kinds")
  void whatQemuSendsAnotherOneLoads(Kind kind) throws Exception {
    Path file = Files.createTempDirectory(snapshots, "kind").resolve("vm.mr");
    Path qmp = directory.resolve("qmp");
    try (Daemon _ = daemon(file, qmp);
        QmpConnection sink = QmpConnection.to(qmp);
        QemuProcess qemu = QemuProcess.start(lab, kind.machine(), directory)) {
      sink.enableCapabilities(kind.sink());
      if (!kind.parameters().isEmpty() && kind.sink().contains("multifd")) {
        sink.execute("migrate-set-parameters", kind.parameters());
      }
      prepare(qemu, kind);
      send(qemu, sink, kind);
      assertThat(file).exists();
      assertThat(file.resolveSibling(".vm.mr.partial")).doesNotExist();
      if (!kind.name().equals("virtio-mem")) {
        // Of that the memory that is not plugged in never comes.
        assertAllReceived(sink.execute("query-migrate"));
      }
      if (kind.source().contains("background-snapshot")) {
        qemu.console().awaitTick();
        assertThat(qemu.console().verify().bad()).isZero();
      }
      qemu.quit();
    }
    assertGuestIsWhole(kind.machine(), file);
  }

  private Daemon daemon(Path file, Path qmp) throws IOException {
    return Daemon.start(
        DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
            .withGuest(GuestSpec.parse("file:" + file)));
  }

  /** The connection is cut again and again while RAM comes, wherever it happens to be. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void snapshotOutlivesLostConnections(boolean preempt) throws Exception {
    Path file = Files.createTempDirectory(snapshots, "cut").resolve("vm.mr");
    Path qmp = directory.resolve("qmp");
    List<String> capabilities =
        preempt ? List.of("postcopy-ram", "postcopy-preempt") : List.of("postcopy-ram");
    Random random = new Random(7);
    try (Daemon _ = daemon(file, qmp);
        QmpConnection sink = QmpConnection.to(qmp);
        QemuProcess qemu = QemuProcess.start(lab, machine("pc"), directory)) {
      sink.enableCapabilities(capabilities);
      qemu.console().awaitFilled();
      qemu.qmp().enableCapabilities(capabilities);
      qemu.qmp()
          .execute(
              "migrate-set-parameters",
              Map.of("max-bandwidth", 20 << 20, "max-postcopy-bandwidth", 10 << 20));
      sink.execute("migrate-incoming", Map.of("uri", "unix:" + directory.resolve("mig")));
      qemu.qmp().execute("migrate", Map.of("uri", "unix:" + directory.resolve("mig")));
      sink.awaitMigration("active");
      qemu.qmp().execute("migrate-start-postcopy");
      sink.awaitMigration("postcopy-active");
      for (int round = 0; round < CUTS; round++) {
        Thread.sleep(random.nextInt(120));
        sink.execute("migrate-pause");
        sink.awaitMigration("postcopy-paused");
        qemu.qmp().awaitMigration("postcopy-paused");
        String again = "unix:" + directory.resolve("again" + round);
        sink.execute("migrate-recover", Map.of("uri", again));
        sink.awaitMigration("postcopy-recover-setup");
        qemu.qmp().execute("migrate", Map.of("uri", again, "resume", true));
        sink.awaitMigration("postcopy-active");
      }
      assertThat(sink.execute("query-migrate").path("ram").path("remaining").asLong()).isPositive();
      qemu.qmp().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
      sink.awaitMigration("completed");
      qemu.qmp().awaitMigration("completed");
      assertAllReceived(sink.execute("query-migrate"));
      qemu.quit();
    }
    assertGuestIsWhole(machine("pc"), file);
  }

  /** Killed while RAM comes: another daemon finds the devices, and asks for all pages anew. */
  @Test
  void snapshotOutlivesTheDaemon() throws Exception {
    Path file = Files.createTempDirectory(snapshots, "killed").resolve("vm.mr");
    Path partial = file.resolveSibling(".vm.mr.partial");
    Path state = file.resolveSibling(".vm.mr.partial.state");
    Path qmp = directory.resolve("qmp");
    Path again = directory.resolve("again");
    try (QemuProcess qemu = QemuProcess.start(lab, machine("pc"), directory)) {
      qemu.console().awaitFilled();
      qemu.qmp().enableCapabilities(List.of("postcopy-ram"));
      qemu.qmp()
          .execute(
              "migrate-set-parameters",
              Map.of("max-bandwidth", 20 << 20, "max-postcopy-bandwidth", 10 << 20));
      Process killed = process(file, qmp);
      try (QmpConnection sink = connect(qmp, killed)) {
        sink.enableCapabilities(List.of());
        sink.execute("migrate-incoming", Map.of("uri", "unix:" + directory.resolve("mig")));
        qemu.qmp().execute("migrate", Map.of("uri", "unix:" + directory.resolve("mig")));
        sink.awaitMigration("active");
        qemu.qmp().execute("migrate-start-postcopy");
        sink.awaitMigration("postcopy-active");
        assertThat(state).exists();
      } finally {
        killed.destroyForcibly().waitFor();
      }
      qemu.qmp().awaitMigration("postcopy-paused");
      assertThat(partial).exists();
      assertThat(file).doesNotExist();
      qemu.qmp().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
      // One that finds it and is asked for nothing leaves it alone.
      daemon(file, qmp).close();
      assertThat(state).exists();
      try (Daemon _ = daemon(file, qmp);
          QmpConnection sink = QmpConnection.to(qmp)) {
        assertThat(sink.execute("query-migrate").path("status").asString())
            .isEqualTo("postcopy-paused");
        sink.execute("migrate-recover", Map.of("uri", "unix:" + again));
        qemu.qmp().execute("migrate", Map.of("uri", "unix:" + again, "resume", true));
        sink.awaitMigration("completed");
        qemu.qmp().awaitMigration("completed");
        assertThat(sink.execute("query-migrate").path("ram").path("remaining").asLong()).isZero();
        assertThat(state).doesNotExist();
      }
      qemu.quit();
    }
    assertGuestIsWhole(machine("pc"), file);
  }

  /** A daemon that can be killed. */
  private Process process(Path file, Path qmp) throws IOException {
    return new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "--enable-native-access=ALL-UNNAMED",
            "-cp",
            System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")),
            "dev.postcopyd.cli.PostcopydCommand",
            "run",
            "--qmp",
            "unix:" + qmp,
            "--guest",
            "file:" + file)
        .inheritIO()
        .start();
  }

  private static QmpConnection connect(Path qmp, Process process) throws Exception {
    while (!Files.exists(qmp)) {
      assertThat(process.isAlive()).isTrue();
      Thread.sleep(20);
    }
    return QmpConnection.to(qmp);
  }

  /**
   * From a live QEMU into a snapshot, from there lazily into another QEMU; and over the wire into a
   * second snapshot.
   */
  @Test
  void snapshotIsResumedLazilyAndServed() throws Exception {
    Path file = Files.createTempDirectory(snapshots, "chain").resolve("vm.mr");
    Path copy = file.resolveSibling("copy.mr");
    Path qmp = directory.resolve("qmp");
    String uri = "unix:" + directory.resolve("mig");
    QemuOptions pc = machine("pc");
    try (Daemon _ = daemon(file, qmp);
        QmpConnection sink = QmpConnection.to(qmp);
        QemuProcess qemu = QemuProcess.start(lab, pc, directory)) {
      qemu.console().awaitFilled();
      qemu.qmp().enableCapabilities(List.of("background-snapshot"));
      sink.enableCapabilities(List.of());
      sink.execute("migrate-incoming", Map.of("uri", uri));
      qemu.qmp().execute("migrate", Map.of("uri", uri));
      sink.awaitMigration("completed");
      qemu.quit();
    }
    Path destination = directory.resolve("lazy");
    try (QemuProcess qemu = QemuProcess.start(lab, pc.with("-incoming", "defer"), directory)) {
      qemu.qmp().enableCapabilities(List.of("postcopy-ram"));
      qemu.qmp().execute("migrate-incoming", Map.of("uri", "unix:" + destination));
      Path second = directory.resolve("qmp2");
      try (Daemon lazy =
              Daemon.start(
                  DaemonConfig.of(List.of(SocketSpec.parse("unix:" + second)))
                      .withGuest(GuestSpec.parse("stream:unix:" + destination)));
          QmpConnection source = QmpConnection.to(second)) {
        source.enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
        source.execute("migrate-incoming", Map.of("uri", "file:" + file));
        source.awaitMigration("completed");
        assertThat(lazy.status().wireName()).isEqualTo("completed");
        qemu.qmp().awaitMigration("completed");
      }
      qemu.console().awaitTick();
      assertThat(qemu.console().verifyAtRandom().bad()).isZero();
      qemu.quit();
    }
    Path third = directory.resolve("qmp3");
    Path fourth = directory.resolve("qmp4");
    String between = "unix:" + directory.resolve("between");
    try (Daemon _ = daemon(copy, third);
        QmpConnection sink = QmpConnection.to(third);
        Daemon _ =
            Daemon.start(
                DaemonConfig.of(List.of(SocketSpec.parse("unix:" + fourth)))
                    .withGuest(GuestSpec.parse("stream:" + between)));
        QmpConnection source = QmpConnection.to(fourth)) {
      sink.enableCapabilities(List.of());
      sink.execute("migrate-incoming", Map.of("uri", between));
      source.enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
      source.execute("migrate-incoming", Map.of("uri", "file:" + file));
      source.awaitMigration("completed");
      sink.awaitMigration("completed");
    }
    assertGuestIsWhole(pc, copy);
  }

  private static void prepare(QemuProcess qemu, Kind kind) throws Exception {
    qemu.console().awaitFilled();
    if (kind.source().contains("dirty-bitmaps")) {
      qemu.qmp().execute("block-dirty-bitmap-add", Map.of("node", "disk0", "name", "bitmap0"));
    }
    if (kind.way() == Way.PLAIN) {
      qemu.qmp().execute("stop");
    }
    qemu.qmp().enableCapabilities(kind.source());
    if (!kind.parameters().containsKey("max-bandwidth")) {
      qemu.qmp().execute("migrate-set-parameters", Map.of("max-bandwidth", 0));
    }
    if (!kind.parameters().isEmpty()) {
      qemu.qmp().execute("migrate-set-parameters", kind.parameters());
    }
  }

  private void send(QemuProcess qemu, QmpConnection sink, Kind kind) throws Exception {
    boolean tcp = kind.channel().equals("tcp");
    String wanted = tcp ? "tcp:127.0.0.1:0" : "unix:" + directory.resolve("mig");
    sink.execute("migrate-incoming", Map.of("uri", wanted));
    String uri = wanted;
    if (tcp) {
      JsonNode address = sink.execute("query-migrate").path("socket-address").path(0);
      uri = "tcp:127.0.0.1:" + address.path("port").asString();
    }
    qemu.qmp().execute("migrate", Map.of("uri", uri));
    List<String> expected = new ArrayList<>(List.of("setup", "active"));
    if (kind.way() == Way.POSTCOPY) {
      sink.awaitMigration("active");
      qemu.console().write(500);
      qemu.qmp().execute("migrate-start-postcopy");
      expected.addAll(List.of("postcopy-device", "postcopy-active"));
    } else if (kind.way() == Way.LIVE && kind.parameters().containsKey("max-bandwidth")) {
      sink.awaitMigration("active");
      for (int round = 0; round < 3; round++) {
        Thread.sleep(300);
        qemu.console().write(200);
      }
      qemu.qmp().execute("migrate-set-parameters", Map.of("max-bandwidth", 0));
    }
    try {
      sink.awaitMigration("completed");
    } catch (IOException e) {
      throw new IOException("the source says: " + qemu.qmp().execute("query-migrate"), e);
    }
    qemu.qmp().awaitMigration("completed");
    expected.add("completed");
    assertThat(sink.migrationStatuses()).isEqualTo(expected);
  }

  private static void assertAllReceived(JsonNode queryMigrate) {
    assertThat(queryMigrate.path("status").asString()).isEqualTo("completed");
    assertThat(queryMigrate.path("ram").path("remaining").asLong()).as("%s", queryMigrate).isZero();
    assertThat(queryMigrate.path("ram").path("transferred").asLong())
        .isGreaterThan(DATA_MIB * 1_000_000L);
  }

  private void assertGuestIsWhole(QemuOptions machine, Path file) throws Exception {
    try (QemuProcess destination = QemuProcess.load(lab, machine, directory, "file:" + file)) {
      destination.console().awaitTick();
      GuestConsole.Verification found = destination.console().verifyAtRandom();
      assertThat(found.bad()).as("%s", found).isZero();
      assertThat(found.pages()).isEqualTo((long) (DATA_MIB + OTHER_AREAS_MIB) * PAGES_PER_MIB);
      destination.quit();
    }
  }
}
