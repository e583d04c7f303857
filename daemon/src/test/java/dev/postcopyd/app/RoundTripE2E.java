package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.PostcopydProcess;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import dev.postcopyd.lab.QmpShell;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;

/**
 * The main job on real input: a snapshot that stock QEMU made is loaded lazily by the packaged
 * program, saved again, and loaded by stock QEMU, whose guest then checks every page of its own
 * memory.
 */
class RoundTripE2E {
  private static final int OTHER_AREAS_MIB = 8 + 8 + 8;
  private static final int PAGES_PER_MIB = 256;

  /** For sockets: their paths must be short. */
  @TempDir Path directory;

  /** For snapshots: /tmp may be memory. */
  private Path snapshots;

  private QemuLab lab;

  /**
   * One way to make a snapshot.
   *
   * @param uriSuffix what follows the path, e.g. {@code ,offset=12345}
   * @param capabilities with which QEMU saves
   * @param running whether the guest runs meanwhile
   */
  record Snapshot(
      String name,
      QemuOptions options,
      String uriSuffix,
      List<String> capabilities,
      boolean running) {
    @Override
    public String toString() {
      return name;
    }
  }

  static Stream<Snapshot> snapshots() {
    QemuOptions pc = QemuOptions.of("pc", 256, 96);
    QemuOptions q35 = QemuOptions.of("q35", 256, 96);
    List<String> plain = List.of("mapped-ram");
    List<String> multifd = List.of("mapped-ram", "multifd");
    return Stream.of(
        new Snapshot("1100 MiB of data", QemuOptions.of("pc", 1536, 1100), "", plain, false),
        new Snapshot("q35", q35, "", plain, false),
        new Snapshot("offset=12345", pc, ",offset=12345", plain, false),
        new Snapshot("written by multifd", pc, "", multifd, false),
        new Snapshot(
            "suppress-vmdesc", QemuOptions.of("pc,suppress-vmdesc=on", 256, 96), "", plain, false),
        new Snapshot("2 vCPUs, running", pc.withCpus(2), "", plain, true),
        new Snapshot(
            "q35 with devices, running",
            q35.with("-vga", "std", "-nic", "user,model=e1000", "-device", "virtio-rng-pci"),
            "",
            plain,
            true));
  }

  @BeforeEach
  void findLab() throws IOException {
    lab = QemuLab.require();
    snapshots = Files.createTempDirectory(lab.root().resolve("daemon/target"), "e2e");
  }

  @AfterEach
  void deleteSnapshots() throws IOException {
    try (Stream<Path> files = Files.walk(snapshots)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("snapshots")
  void guestFindsItsMemoryWhole(Snapshot snapshot) throws Exception {
    String saved = save(snapshot);
    String out = "file:" + snapshots.resolve("out.mr");
    try (PostcopydProcess postcopyd = PostcopydProcess.run(lab, directory)) {
      postcopyd.qmp().enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
      postcopyd.qmp().execute("migrate-incoming", Map.of("uri", saved));
      postcopyd.qmp().awaitMigration("completed");
      assertThat(postcopyd.qmp().migrationStatuses())
          .containsExactly("setup", "postcopy-device", "postcopy-active", "completed");
      assertAllReceived(postcopyd.qmp().execute("query-migrate"));

      postcopyd.qmp().execute("migrate", Map.of("uri", out));
      postcopyd.qmp().awaitMigration("completed");
      postcopyd.qmp().execute("quit");
      assertThat(postcopyd.awaitExit()).as(postcopyd::story).isZero();
    }
    assertGuestIsWhole(snapshot, out);
  }

  /** A person's session; qmp-shell's own syntax, and nothing but its screen to judge by. */
  @Test
  void qmpShellDrivesTheWholeSession() throws Exception {
    Snapshot snapshot =
        new Snapshot("", QemuOptions.of("pc", 192, 64), "", List.of("mapped-ram"), false);
    String saved = save(snapshot);
    String out = "file:" + snapshots.resolve("out.mr");
    try (PostcopydProcess postcopyd = PostcopydProcess.run(lab, directory);
        QmpShell shell = QmpShell.start(lab, directory, postcopyd.socket())) {
      shell.type("query-version");
      shell.type("query-status");
      shell.type(
          "migrate-set-capabilities capabilities=[{\"capability\":\"mapped-ram\",\"state\":true},"
              + "{\"capability\":\"postcopy-ram\",\"state\":true},"
              + "{\"capability\":\"events\",\"state\":true}]");
      shell.type("migrate-incoming uri=" + saved);
      shell.typeUntil(
          "query-migrate", "\"execute\": \"migrate-incoming\"", "\"status\": \"completed\"");
      // qmp-shell shows the events of the meantime at an empty line.
      shell.type("");
      shell.type("migrate uri=" + out);
      shell.typeUntil("query-migrate", "\"execute\": \"migrate\"", "\"status\": \"completed\"");
      shell.type("quit");
      String screen = shell.finish();
      assertThat(screen)
          .contains("postcopyd")
          .containsSubsequence(
              "'data': {'status': 'setup'}",
              "'data': {'status': 'postcopy-device'}",
              "'data': {'status': 'postcopy-active'}",
              "'data': {'status': 'completed'}")
          .doesNotContain("\"error\"");
      assertThat(postcopyd.awaitExit()).as(postcopyd::story).isZero();
    }
    assertGuestIsWhole(snapshot, out);
  }

  private String save(Snapshot snapshot) throws Exception {
    String uri = "file:" + snapshots.resolve("saved.mr") + snapshot.uriSuffix();
    try (QemuProcess source = QemuProcess.start(lab, snapshot.options(), directory)) {
      source.console().awaitFilled();
      if (!snapshot.running()) {
        source.qmp().execute("stop");
      }
      source.save(uri, snapshot.capabilities());
      source.quit();
    }
    return uri;
  }

  private static void assertAllReceived(JsonNode queryMigrate) {
    JsonNode ram = queryMigrate.path("ram");
    assertThat(queryMigrate.path("status").asString()).isEqualTo("completed");
    assertThat(ram.path("remaining").asLong()).isZero();
    assertThat((ram.path("normal").asLong() + ram.path("duplicate").asLong()) * 4096)
        .as("%s", queryMigrate)
        .isEqualTo(ram.path("total").asLong());
  }

  private void assertGuestIsWhole(Snapshot snapshot, String uri) throws Exception {
    try (QemuProcess destination = QemuProcess.load(lab, snapshot.options(), directory, uri)) {
      destination.console().awaitTick();
      GuestConsole.Verification found = destination.console().verifyAtRandom();
      assertThat(found.bad()).as("%s", found).isZero();
      assertThat(found.pages())
          .isEqualTo((long) (snapshot.options().dataMib() + OTHER_AREAS_MIB) * PAGES_PER_MIB);
      assertThat(found.cpus()).isEqualTo(snapshot.options().cpus());
      destination.quit();
    }
  }
}
