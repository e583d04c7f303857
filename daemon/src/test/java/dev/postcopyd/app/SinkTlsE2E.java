package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.lab.QmpErrorReply;
import dev.postcopyd.tls.TestCredentials;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Migrations that a stock QEMU's GnuTLS encrypts, in both directions. */
class SinkTlsE2E {
  private static final QemuOptions MACHINE = QemuOptions.of("pc", 128, 24);
  private static final long PAGES = (24 + 8 + 8 + 8) * 256L;

  private static QemuLab lab;
  private static Path snapshots;

  /** For sockets: their paths must be short. */
  @TempDir Path directory;

  private Path credentials;

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

  @BeforeEach
  void writeCredentials() throws Exception {
    credentials = new TestCredentials("authority").writeTo(directory.resolve("tls"));
  }

  private static void credentials(QmpConnection qmp, String endpoint, Path from) throws Exception {
    qmp.execute(
        "object-add",
        Map.of(
            "qom-type",
            "tls-creds-x509",
            "id",
            "tls0",
            "endpoint",
            endpoint,
            "dir",
            from.toString()));
  }

  private static Daemon sink(Path file, Path qmp) throws IOException {
    return Daemon.start(
        DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
            .withGuest(GuestSpec.parse("file:" + file)));
  }

  private static String incoming(QmpConnection sink) throws Exception {
    sink.execute("migrate-incoming", Map.of("uri", "tcp:127.0.0.1:0"));
    return "tcp:localhost:"
        + sink.execute("query-migrate").path("socket-address").path(0).path("port").asString();
  }

  @ParameterizedTest
  @ValueSource(strings = {"return-path", "auto-converge", "multifd", "postcopy-preempt"})
  void encryptedMigrationBecomesASnapshot(String kind) throws Exception {
    Path file = Files.createTempDirectory(snapshots, "tls").resolve("vm.mr");
    Path qmp = directory.resolve("qmp");
    boolean postcopy = kind.equals("postcopy-preempt");
    List<String> capabilities = postcopy ? List.of("postcopy-ram", kind) : List.of(kind);
    try (Daemon _ = sink(file, qmp);
        QmpConnection sink = QmpConnection.to(qmp);
        QemuProcess qemu = QemuProcess.start(lab, MACHINE, directory)) {
      sink.enableCapabilities(postcopy || kind.equals("multifd") ? capabilities : List.of());
      credentials(sink, "server", credentials);
      sink.execute("migrate-set-parameters", Map.of("tls-creds", "tls0"));
      credentials(qemu.qmp(), "client", credentials);
      qemu.qmp()
          .execute(
              "migrate-set-parameters",
              Map.of("tls-creds", "tls0", "max-bandwidth", postcopy ? 20 << 20 : 0));
      qemu.console().awaitFilled();
      qemu.qmp().enableCapabilities(capabilities);
      qemu.qmp().execute("migrate", Map.of("uri", incoming(sink)));
      if (postcopy) {
        sink.awaitMigration("active");
        qemu.qmp().execute("migrate-start-postcopy");
        sink.awaitMigration("postcopy-active");
        // TLS outlives a recovery.
        sink.execute("migrate-pause");
        sink.awaitMigration("postcopy-paused");
        qemu.qmp().awaitMigration("postcopy-paused");
        sink.execute("migrate-recover", Map.of("uri", "tcp:127.0.0.1:0"));
        sink.awaitMigration("postcopy-recover-setup");
        String port =
            sink.execute("query-migrate").path("socket-address").path(0).path("port").asString();
        qemu.qmp().execute("migrate", Map.of("uri", "tcp:localhost:" + port, "resume", true));
      }
      sink.awaitMigration("completed");
      qemu.qmp().awaitMigration("completed");
      qemu.quit();
    }
    try (QemuProcess loaded = QemuProcess.load(lab, MACHINE, directory, "file:" + file)) {
      assertWhole(loaded);
    }
  }

  /** Into the daemon's own memory, and from there into a snapshot; TLS outlives a recovery. */
  @Test
  void encryptedMigrationIsReceivedIntoMemory() throws Exception {
    Path file = Files.createTempDirectory(snapshots, "tls").resolve("vm.mr");
    Path qmp = directory.resolve("qmp");
    List<String> capabilities = List.of("postcopy-ram", "postcopy-preempt");
    try (Daemon _ =
            Daemon.start(
                DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
                    .withGuest(GuestSpec.parse("memory,tls-creds=" + credentials)));
        QmpConnection memory = QmpConnection.to(qmp);
        QemuProcess qemu = QemuProcess.start(lab, MACHINE, directory)) {
      memory.enableCapabilities(capabilities);
      credentials(qemu.qmp(), "client", credentials);
      qemu.qmp()
          .execute(
              "migrate-set-parameters", Map.of("tls-creds", "tls0", "max-bandwidth", 20 << 20));
      qemu.console().awaitFilled();
      qemu.qmp().enableCapabilities(capabilities);
      qemu.qmp().execute("migrate", Map.of("uri", incoming(memory)));
      memory.awaitMigration("active");
      qemu.qmp().execute("migrate-start-postcopy");
      memory.awaitMigration("postcopy-active");
      memory.execute("migrate-pause");
      memory.awaitMigration("postcopy-paused");
      qemu.qmp().awaitMigration("postcopy-paused");
      memory.execute("migrate-recover", Map.of("uri", "tcp:127.0.0.1:0"));
      memory.awaitMigration("postcopy-recover-setup");
      String port =
          memory.execute("query-migrate").path("socket-address").path(0).path("port").asString();
      qemu.qmp().execute("migrate", Map.of("uri", "tcp:localhost:" + port, "resume", true));
      memory.awaitMigration("completed");
      qemu.qmp().awaitMigration("completed");
      qemu.quit();
      memory.execute(
          "migrate-set-capabilities",
          Map.of("capabilities", List.of(Map.of("capability", "mapped-ram", "state", true))));
      memory.execute("migrate", Map.of("uri", "file:" + file));
      memory.awaitMigration("completed");
    }
    try (QemuProcess loaded = QemuProcess.load(lab, MACHINE, directory, "file:" + file)) {
      assertWhole(loaded);
    }
  }

  private static void assertWhole(QemuProcess qemu) throws Exception {
    qemu.console().awaitTick();
    GuestConsole.Verification found = qemu.console().verifyAtRandom();
    assertThat(found.bad()).as("%s", found).isZero();
    assertThat(found.pages()).isEqualTo(PAGES);
    qemu.quit();
  }

  /** Neither side believes whoever comes; the guest stays where it is. */
  @Test
  void strangersAreRefused() throws Exception {
    Path strange = new TestCredentials("stranger").writeTo(directory.resolve("strange"));
    Path file = Files.createTempDirectory(snapshots, "tls").resolve("vm.mr");
    Path qmp = directory.resolve("qmp");
    try (Daemon daemon = sink(file, qmp);
        QmpConnection sink = QmpConnection.to(qmp);
        QemuProcess qemu = QemuProcess.start(lab, MACHINE, directory)) {
      qemu.console().awaitFilled();
      qemu.qmp().enableCapabilities(List.of("return-path"));
      sink.enableCapabilities(List.of());
      sink.execute("migrate-set-parameters", Map.of("tls-creds", "tls0"));
      assertThatThrownBy(() -> incoming(sink))
          .isInstanceOf(QmpErrorReply.class)
          .hasMessageContaining("No TLS credentials with id 'tls0'");
      credentials(sink, "client", credentials);
      assertThatThrownBy(() -> incoming(sink))
          .hasMessageContaining("Expected TLS credentials for a server endpoint");
      sink.execute("object-del", Map.of("id", "tls0"));
      credentials(sink, "server", credentials);
      String uri = incoming(sink);
      // One that does not speak TLS, and one that is not known.
      qemu.qmp().execute("migrate", Map.of("uri", uri));
      assertThatThrownBy(() -> qemu.qmp().awaitMigration("completed"))
          .hasMessageContaining("failed");
      credentials(qemu.qmp(), "client", strange);
      qemu.qmp().execute("migrate-set-parameters", Map.of("tls-creds", "tls0"));
      qemu.qmp().execute("migrate", Map.of("uri", uri));
      assertThatThrownBy(() -> qemu.qmp().awaitMigration("completed"))
          .hasMessageContaining("failed");
      assertThat(daemon.status().wireName()).isEqualTo("setup");
      qemu.console().awaitTick();
      // The right one still may come.
      qemu.qmp().execute("object-del", Map.of("id", "tls0"));
      credentials(qemu.qmp(), "client", credentials);
      qemu.qmp().execute("migrate", Map.of("uri", uri));
      sink.awaitMigration("completed");
      qemu.quit();
    }
    assertThat(file).exists();
  }

  /** From a snapshot lazily into a QEMU that wants TLS. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void encryptedResumeIsLazy(boolean preempt) throws Exception {
    Path file = Files.createTempDirectory(snapshots, "tls").resolve("vm.mr");
    try (QemuProcess qemu = QemuProcess.start(lab, MACHINE, directory)) {
      qemu.console().awaitFilled();
      qemu.save("file:" + file, List.of("mapped-ram"));
      qemu.quit();
    }
    Path qmp = directory.resolve("qmp");
    List<String> capabilities =
        preempt ? List.of("postcopy-ram", "postcopy-preempt") : List.of("postcopy-ram");
    try (QemuProcess qemu = QemuProcess.start(lab, MACHINE.with("-incoming", "defer"), directory)) {
      qemu.qmp().enableCapabilities(capabilities);
      credentials(qemu.qmp(), "server", credentials);
      qemu.qmp().execute("migrate-set-parameters", Map.of("tls-creds", "tls0"));
      qemu.qmp().execute("migrate-incoming", Map.of("uri", "tcp:127.0.0.1:0"));
      String port =
          qemu.qmp()
              .execute("query-migrate")
              .path("socket-address")
              .path(0)
              .path("port")
              .asString();
      try (Daemon _ =
              Daemon.start(
                  DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
                      .withGuest(
                          GuestSpec.parse(
                              "stream:tcp:127.0.0.1:%s,tls-creds=%s,preempt=%s"
                                  .formatted(port, credentials, preempt ? "on" : "off"))));
          QmpConnection source = QmpConnection.to(qmp)) {
        source.enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
        source.execute("migrate-incoming", Map.of("uri", "file:" + file));
        source.awaitMigration("completed");
        qemu.qmp().awaitMigration("completed");
      }
      assertWhole(qemu);
    }
  }
}
