package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.PostcopydProcess;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import dev.postcopyd.lab.QmpErrorReply;
import dev.postcopyd.lab.RawQmp;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
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
 * The flagship on real input: a snapshot that stock QEMU made is run by another stock QEMU with the
 * packaged program as its migration source, and the guest checks every page of its own memory.
 */
class StreamE2E {
  private static final int MEMORY_MIB = 256;
  private static final int DATA_MIB = 96;
  private static final int OTHER_AREAS_MIB = 8 + 8 + 8;
  private static final int PAGES_PER_MIB = 256;
  private static final Path HUGE_PAGES = Path.of("/proc/sys/vm/nr_hugepages");

  /** Snapshots by machine and vCPUs, each made once. */
  private static final Map<String, String> SNAPSHOTS = new HashMap<>();

  private static Path snapshots;
  private static QemuLab lab;

  /** For sockets: their paths must be short. */
  @TempDir Path directory;

  /**
   * One way to run a snapshot.
   *
   * @param channel unix, tcp or fd
   * @param backend further options of the destination
   * @param guestOptions what is behind {@code --guest stream:URI}
   */
  record Way(
      String name,
      QemuOptions machine,
      String channel,
      boolean preempt,
      List<String> backend,
      String guestOptions) {
    @Override
    public String toString() {
      return name;
    }
  }

  private static QemuOptions machine(String type) {
    return QemuOptions.of(type, MEMORY_MIB, DATA_MIB);
  }

  private static List<String> backend(String id, String options) {
    return List.of(
        "-object",
        "memory-backend-memfd,id=" + id + ",size=" + MEMORY_MIB + "M" + options,
        "-machine",
        "memory-backend=" + id);
  }

  static Stream<Way> ways() {
    QemuOptions pc = machine("pc");
    QemuOptions q35 = machine("q35").withCpus(2);
    List<String> none = List.of();
    return Stream.of(
        new Way("unix", pc, "unix", false, none, ""),
        new Way("unix, preempt", pc, "unix", true, none, ""),
        new Way("tcp", pc, "tcp", false, none, ""),
        new Way("tcp, preempt", pc, "tcp", true, none, ""),
        new Way("fd", pc, "fd", false, none, ""),
        new Way("q35, 2 vCPUs", q35, "unix", false, none, ""),
        new Way("q35, 2 vCPUs, preempt", q35, "unix", true, none, ""),
        new Way("shared memfd", pc, "unix", false, backend("pc.ram", ",share=on"), ""),
        new Way("renamed memdev", pc, "unix", true, backend("m0", ",share=on"), ",map.pc.ram=m0"),
        new Way(
            "a block that the snapshot does not have",
            pc,
            "unix",
            false,
            List.of("-nic", "user,model=e1000"),
            ""));
  }

  static Stream<Way> hugeWays() {
    List<String> huge = backend("pc.ram", ",hugetlb=on,hugetlbsize=2M,share=on");
    return Stream.of(
        new Way("hugetlb", machine("pc"), "unix", false, huge, ",page-size.pc.ram=2M"),
        new Way("hugetlb, preempt", machine("pc"), "unix", true, huge, ",page-size.pc.ram=2M"));
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
  @MethodSource("ways")
  void guestFindsItsMemoryWhole(Way way) throws Exception {
    run(way);
  }

  @ParameterizedTest
  @MethodSource("hugeWays")
  void guestFindsItsMemoryWholeInHugePages(Way way) throws Exception {
    String before = Files.readString(HUGE_PAGES).strip();
    Files.writeString(HUGE_PAGES, Integer.toString(MEMORY_MIB / 2 + 4));
    try {
      run(way);
    } finally {
      Files.writeString(HUGE_PAGES, before);
    }
  }

  private void run(Way way) throws Exception {
    String saved = saved(way.machine());
    String uri =
        switch (way.channel()) {
          case "tcp" -> "tcp:127.0.0.1:" + freePort();
          case "fd" -> "fd:mig";
          default -> "unix:" + directory.resolve("mig");
        };
    try (QemuProcess qemu = destination(way);
        PostcopydProcess postcopyd =
            PostcopydProcess.run(lab, directory, "--guest", "stream:" + uri + way.guestOptions())) {
      List<String> capabilities = capabilities(way.preempt());
      qemu.qmp().enableCapabilities(capabilities);
      List<String> ours = new ArrayList<>(capabilities);
      ours.add("mapped-ram");
      postcopyd.qmp().enableCapabilities(ours);
      if (way.channel().equals("fd")) {
        incomingByDescriptor(postcopyd.socket(), saved);
      } else {
        qemu.qmp().execute("migrate-incoming", Map.of("uri", uri));
        postcopyd.qmp().execute("migrate-incoming", Map.of("uri", saved));
      }
      postcopyd.qmp().awaitMigration("completed");
      qemu.qmp().awaitMigration("completed");
      assertThat(postcopyd.qmp().migrationStatuses())
          .containsExactly("setup", "postcopy-device", "postcopy-active", "completed");
      assertAllSent(postcopyd.qmp().execute("query-migrate"));
      // As at every source: whether the guest runs, its own monitor says.
      assertThat(postcopyd.qmp().execute("query-status").path("status").asString())
          .isEqualTo("postmigrate");
      assertGuestIsWhole(way.machine(), qemu);
      qemu.quit();
      postcopyd.qmp().execute("quit");
      assertThat(postcopyd.awaitExit()).as(postcopyd::story).isZero();
    }
  }

  private static List<String> capabilities(boolean preempt) {
    return preempt ? List.of("postcopy-ram", "postcopy-preempt") : List.of("postcopy-ram");
  }

  private QemuProcess destination(Way way) throws Exception {
    List<String> options = new ArrayList<>(way.backend());
    options.addAll(List.of("-incoming", "defer"));
    if (way.channel().equals("fd")) {
      options.addAll(List.of("-qmp", "unix:" + rawMonitor() + ",server=on,wait=off"));
    }
    return QemuProcess.start(lab, way.machine().with(options.toArray(String[]::new)), directory);
  }

  /** A monitor of its own, because descriptors belong to the monitor they came by. */
  private Path rawMonitor() {
    return directory.resolve("raw");
  }

  private void incomingByDescriptor(Path postcopyd, String saved) throws IOException {
    int[] pair = UnixSocket.socketPair();
    try (RawQmp qemu = new RawQmp(rawMonitor());
        RawQmp ours = new RawQmp(postcopyd)) {
      String getfd = "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"mig\"}}";
      String incoming = "{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"%s\"}}";
      qemu.execute(getfd, pair[0]);
      ours.execute(getfd, pair[1]);
      qemu.execute(incoming.formatted("fd:mig"));
      ours.execute(incoming.formatted(saved));
    } finally {
      FileDescriptors.close(pair[0]);
      FileDescriptors.close(pair[1]);
    }
  }

  @Test
  void destinationOfAnotherMachineTypeRefuses() throws Exception {
    String uri = "unix:" + directory.resolve("mig");
    try (QemuProcess qemu =
            QemuProcess.start(lab, machine("q35").with("-incoming", "defer"), directory);
        PostcopydProcess postcopyd =
            PostcopydProcess.run(lab, directory, "--guest", "stream:" + uri)) {
      qemu.qmp().enableCapabilities(capabilities(false));
      qemu.qmp().execute("migrate-incoming", Map.of("uri", uri, "exit-on-error", false));
      postcopyd.qmp().enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
      postcopyd.qmp().execute("migrate-incoming", Map.of("uri", saved(machine("pc"))));
      postcopyd.qmp().awaitMigration("failed");
      assertThat(postcopyd.qmp().execute("query-migrate").path("error-desc").asString())
          .contains("has not taken the guest");
    }
  }

  /** The connection breaks twice while the guest runs; a fresh one goes on with what is missing. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void guestOutlivesLostConnections(boolean preempt) throws Exception {
    String uri = "unix:" + directory.resolve("mig");
    try (QemuProcess qemu =
            QemuProcess.start(lab, machine("pc").with("-incoming", "defer"), directory);
        PostcopydProcess postcopyd =
            PostcopydProcess.run(lab, directory, "--guest", "stream:" + uri)) {
      qemu.qmp().enableCapabilities(capabilities(preempt));
      List<String> ours = new ArrayList<>(capabilities(preempt));
      ours.add("mapped-ram");
      postcopyd.qmp().enableCapabilities(ours);
      postcopyd
          .qmp()
          .execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 20_000_000));
      qemu.qmp().execute("migrate-incoming", Map.of("uri", uri));
      postcopyd.qmp().execute("migrate-incoming", Map.of("uri", saved(machine("pc"))));
      postcopyd.qmp().awaitMigration("postcopy-active");
      for (int round = 0; round < 2; round++) {
        Thread.sleep(300);
        postcopyd.qmp().execute("migrate-pause");
        postcopyd.qmp().awaitMigration("postcopy-paused");
        qemu.qmp().awaitMigration("postcopy-paused");
        recover(qemu, postcopyd, "again" + round);
      }
      try {
        postcopyd.qmp().execute("migrate_cancel");
        throw new AssertionError("cancelled a guest that runs");
      } catch (QmpErrorReply e) {
        assertThat(e).hasMessageContaining("Postcopy migration in progress, cannot cancel.");
      }
      postcopyd.qmp().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
      postcopyd.qmp().awaitMigration("completed");
      qemu.qmp().awaitMigration("completed");
      assertAllSent(postcopyd.qmp().execute("query-migrate"));
      assertGuestIsWhole(machine("pc"), qemu);
      qemu.quit();
    }
  }

  /** Killed twice while the guest runs; each time a fresh daemon finds what was left behind. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void guestOutlivesTheDaemon(boolean preempt) throws Exception {
    String uri = "unix:" + directory.resolve("mig");
    Path home = Files.createDirectory(directory.resolve("home"));
    Path trace = home.resolve("qmp.load");
    String[] options = {"--guest", "stream:" + uri};
    Map<String, ?> slowly = Map.of("max-postcopy-bandwidth", 20_000_000);
    try (QemuProcess qemu =
        QemuProcess.start(lab, machine("pc").with("-incoming", "defer"), directory)) {
      qemu.qmp().enableCapabilities(capabilities(preempt));
      try (PostcopydProcess first = PostcopydProcess.runIn(lab, home, options)) {
        List<String> ours = new ArrayList<>(capabilities(preempt));
        ours.add("mapped-ram");
        first.qmp().enableCapabilities(ours);
        first.qmp().execute("migrate-set-parameters", slowly);
        qemu.qmp().execute("migrate-incoming", Map.of("uri", uri));
        first.qmp().execute("migrate-incoming", Map.of("uri", saved(machine("pc"))));
        first.qmp().awaitMigration("postcopy-active");
        assertThat(trace).exists();
        Thread.sleep(300);
      }
      qemu.qmp().awaitMigration("postcopy-paused");
      try (PostcopydProcess second = PostcopydProcess.runIn(lab, home, options)) {
        assertPaused(second);
        second.qmp().execute("migrate-set-parameters", slowly);
        recover(qemu, second, "second");
        Thread.sleep(300);
      }
      qemu.qmp().awaitMigration("postcopy-paused");
      try (PostcopydProcess third = PostcopydProcess.runIn(lab, home, options)) {
        assertPaused(third);
        recover(qemu, third, "third");
        third.qmp().awaitMigration("completed");
        assertAllSent(third.qmp().execute("query-migrate"));
        assertThat(trace).doesNotExist();
      }
      qemu.qmp().awaitMigration("completed");
      assertGuestIsWhole(machine("pc"), qemu);
      qemu.quit();
    }
  }

  private static void assertPaused(PostcopydProcess postcopyd) throws Exception {
    assertThat(postcopyd.qmp().execute("query-migrate").path("status").asString())
        .isEqualTo("postcopy-paused");
  }

  private void recover(QemuProcess qemu, PostcopydProcess postcopyd, String socket)
      throws Exception {
    String uri = "unix:" + directory.resolve(socket);
    qemu.qmp().execute("migrate-recover", Map.of("uri", uri));
    postcopyd.qmp().execute("migrate-recover", Map.of("uri", uri));
    postcopyd.qmp().awaitMigration("postcopy-active");
  }

  private static String saved(QemuOptions machine) throws Exception {
    String key = machine.machine() + machine.cpus();
    String known = SNAPSHOTS.get(key);
    if (known != null) {
      return known;
    }
    String uri = "file:" + snapshots.resolve(key + ".mr");
    Path sockets = Files.createTempDirectory("e2e");
    try (QemuProcess source = QemuProcess.start(lab, machine, sockets)) {
      source.console().awaitFilled();
      source.qmp().execute("stop");
      source.save(uri, List.of("mapped-ram"));
      source.quit();
    }
    SNAPSHOTS.put(key, uri);
    return uri;
  }

  private static int freePort() throws IOException {
    try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      return socket.getLocalPort();
    }
  }

  private static void assertAllSent(JsonNode queryMigrate) {
    JsonNode ram = queryMigrate.path("ram");
    assertThat(queryMigrate.path("status").asString()).isEqualTo("completed");
    assertThat(ram.path("remaining").asLong()).isZero();
    assertThat((ram.path("normal").asLong() + ram.path("duplicate").asLong()) * 4096)
        .as("%s", queryMigrate)
        .isEqualTo(ram.path("total").asLong());
  }

  private static void assertGuestIsWhole(QemuOptions machine, QemuProcess qemu) throws Exception {
    qemu.console().awaitTick();
    GuestConsole.Verification found = qemu.console().verifyAtRandom();
    assertThat(found.bad()).as("%s", found).isZero();
    assertThat(found.pages()).isEqualTo((long) (DATA_MIB + OTHER_AREAS_MIB) * PAGES_PER_MIB);
    assertThat(found.cpus()).isEqualTo(machine.cpus());
  }
}
