package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import dev.postcopyd.qmp.codec.QmpJson;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/** {@code postcopyd restore}, the packaged program, into a stock QEMU. */
@Timeout(180)
@SuppressWarnings("NullAway.Init")
class RestoreE2E {
  private static final QemuOptions PC = QemuOptions.of("pc", 256, 96);
  private static final long PATIENCE_SECONDS = 60;

  @TempDir Path directory;

  private QemuLab lab;
  private Path monitor;
  private Path snapshot;

  @BeforeEach
  void find() throws Exception {
    lab = QemuLab.require();
    monitor = directory.resolve("monitor");
    snapshot = Files.createTempFile(lab.root().resolve("daemon/target"), "e2e", ".mr");
  }

  @AfterEach
  void delete() throws Exception {
    Files.deleteIfExists(snapshot);
    Files.deleteIfExists(Path.of(snapshot + ".ws"));
  }

  private void save(boolean running) throws Exception {
    try (QemuProcess source = QemuProcess.start(lab, PC, directory)) {
      source.console().awaitFilled();
      if (!running) {
        source.qmp().execute("stop");
      }
      source.save("file:" + snapshot, List.of("mapped-ram"));
      source.quit();
    }
  }

  private QemuProcess destination() throws Exception {
    return QemuProcess.start(
        lab,
        PC.with("-incoming", "defer", "-qmp", "unix:" + monitor + ",server=on,wait=off"),
        directory);
  }

  private Process restore(String... more) throws IOException {
    List<String> command =
        new ArrayList<>(
            List.of(
                lab.postcopyd().toString(),
                "restore",
                snapshot.toString(),
                "--to",
                "qemu:" + monitor));
    command.addAll(List.of(more));
    return new ProcessBuilder(command).redirectError(directory.resolve("errors").toFile()).start();
  }

  private String errors() throws IOException {
    return Files.readString(directory.resolve("errors"));
  }

  private static int exitCode(Process process) throws InterruptedException {
    assertThat(process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)).isTrue();
    return process.exitValue();
  }

  private static void assertWhole(QemuProcess qemu) throws Exception {
    qemu.console().awaitTick();
    GuestConsole.Verification verification = qemu.console().verifyAtRandom();
    assertThat(verification.bad()).isZero();
    assertThat(verification.pages()).isGreaterThan(96 * 256 - 1);
  }

  @Test
  void aRunningGuestRunsAndTheProgramEndsWithTheLastPage() throws Exception {
    save(true);
    try (QemuProcess qemu = destination()) {
      Process process = restore();
      assertThat(exitCode(process)).as(errors()).isZero();
      assertThat(errors()).contains("The guest ran after").contains("of its 2");
      assertWhole(qemu);
    }
    assertThat(Path.of(snapshot + ".ws")).exists();
  }

  @Test
  void programsReadProgressLineByLine() throws Exception {
    save(true);
    try (QemuProcess qemu = destination()) {
      Process process = restore("--json", "--working-set", "off");
      List<JsonNode> lines = new ArrayList<>();
      try (BufferedReader output = process.inputReader()) {
        for (String line = output.readLine(); line != null; line = output.readLine()) {
          lines.add(QmpJson.parse(line));
        }
      }
      assertThat(exitCode(process)).as(errors()).isZero();
      JsonNode last = lines.getLast();
      assertThat(last.path("status").asString("")).isEqualTo("completed");
      assertThat(last.path("remaining").asLong(-1)).isZero();
      assertThat(last.path("total").asLong(0)).isGreaterThan(256L << 20);
      assertWhole(qemu);
    }
    assertThat(Path.of(snapshot + ".ws")).doesNotExist();
  }

  @Test
  void runAgainItGoesOnWhereItWasKilled() throws Exception {
    save(false);
    try (QemuProcess qemu = destination()) {
      Process killed = restore("--json");
      try (BufferedReader output = killed.inputReader()) {
        String line = output.readLine();
        while (line != null && !line.contains("postcopy-active")) {
          line = output.readLine();
        }
        assertThat(line).as(errors()).isNotNull();
        killed.destroyForcibly().waitFor();
      }
      qemu.qmp().awaitMigration("postcopy-paused");
      assertThat(exitCode(restore())).as(errors()).isZero();
      qemu.qmp().execute("cont");
      assertWhole(qemu);
    }
  }

  @Test
  void aMonitorThatIsNotThereIsWaitedForAndThenNamed() throws Exception {
    Files.writeString(snapshot, "not read before there is a QEMU");
    assertThat(exitCode(restore("--wait", "1"))).isEqualTo(1);
    assertThat(errors()).contains(monitor.toString()).contains("there is no such socket");
  }

  @Test
  void whatIsNoSnapshotIsNamed() throws Exception {
    Files.writeString(snapshot, "no snapshot");
    try (QemuProcess _ = destination()) {
      assertThat(exitCode(restore())).isEqualTo(1);
      assertThat(errors()).contains(snapshot.toString()).contains("not a snapshot");
    }
  }
}
