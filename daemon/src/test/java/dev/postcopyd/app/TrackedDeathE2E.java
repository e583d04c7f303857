package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.lab.UffdGuest;
import dev.postcopyd.snapshot.SnapshotLineage;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/**
 * kill -9 of the packaged program below its holder between two snapshots of a guest whose memory
 * stays write-protected: who writes waits for the successor, which lets it go; the next snapshot is
 * right, and says what it is.
 */
@Timeout(value = 180, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class TrackedDeathE2E {
  private static final long BYTES = 32L << 20;

  /** Until the successor is there: up to 2 s as a rule, and more where the machine is busy. */
  private static final long LONGEST_WAIT_NANOS = 5_000_000_000L;

  private static final String TRACKED = "--incremental-snapshots=copy";

  @TempDir Path directory;

  private UffdGuest stamping(HeldProgram program, Path ram) throws Exception {
    UffdGuest guest =
        program.guest(
            "--region",
            "size=32M",
            "--stamps",
            "--threads",
            "3",
            "--seconds",
            "150",
            "--pause-us",
            "50",
            "--file",
            ram.toString());
    assertThat(guest.line()).isEqualTo("stamping");
    return guest;
  }

  private SnapshotLineage saved(HeldProgram program, Path ram, String name) throws Exception {
    Path file = directory.resolve(name);
    program.snapshot(file);
    SnapshotCut.assertConsistent(directory, file, ram, "size=32M");
    return SnapshotCut.lineageOf(file);
  }

  private static void assertNobodyWaitedLong(UffdGuest guest) throws Exception {
    JsonNode report = SnapshotCut.assertRight(guest);
    assertThat(report.path("wait-max-ns").asLong()).isPositive().isLessThan(LONGEST_WAIT_NANOS);
  }

  @Test
  void killedWhileAGuestIsTracked() throws Exception {
    Path ram = UffdGuest.pattern(directory.resolve("ram"), BYTES);
    try (HeldProgram program = HeldProgram.start(directory, ram, "", TRACKED);
        UffdGuest guest = stamping(program, ram)) {
      program.awaitLoaded();
      assertThat(saved(program, ram, "full").reason()).isPresent();
      assertThat(saved(program, ram, "next"))
          .isEqualTo(SnapshotLineage.from(directory.resolve("full").toString()));
      program.killProgram();
      SnapshotCut.assertNobodyHangs(guest);
      program.awaitLoaded();
      assertThat(saved(program, ram, "again").reason()).isPresent();
      // Something is given back, and only the successor hears of it.
      program.stopProgram();
      guest.tell("g");
      TimeUnit.MILLISECONDS.sleep(50);
      program.killProgram();
      assertThat(guest.line()).startsWith("{");
      SnapshotCut.assertNobodyHangs(guest);
      program.awaitLoaded();
      assertThat(saved(program, ram, "last").reason()).isPresent();
      assertThat(inspect(directory.resolve("last"))).containsPattern("made +in full: ");
      assertNobodyWaitedLong(guest);
    }
  }

  private static String inspect(Path file) throws Exception {
    Process process =
        new ProcessBuilder(
                PackagedDaemon.home().resolve("bin/postcopyd").toString(),
                "inspect",
                file.toString())
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start();
    String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(process.waitFor()).isZero();
    return text;
  }

  /** The successor has no snapshot to fill it from, and needs none. */
  @Test
  void killedWhileAGuestIsTrackedThatCameByMigration() throws Exception {
    Path ram = UffdGuest.pattern(directory.resolve("ram"), BYTES);
    Path snapshot = DataSnapshot.ofRaw(directory.resolve("vm.mr"), ram);
    String uri = "unix:" + directory.resolve("mig");
    Path sourceQmp = directory.resolve("source");
    try (HeldProgram program = HeldProgram.startWithout(directory, "", TRACKED);
        UffdGuest guest = stamping(program, ram);
        Daemon _ =
            Daemon.start(
                DaemonConfig.of(List.of(SocketSpec.parse("unix:" + sourceQmp)))
                    .withGuest(GuestSpec.parse("stream:" + uri + ",preempt=off"))
                    .withIncoming(Optional.empty()));
        QmpConnection source = QmpConnection.to(sourceQmp)) {
      program.receive(uri);
      source.enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
      source.execute("migrate-incoming", Map.of("uri", "file:" + snapshot));
      program.awaitLoaded();
      assertThat(saved(program, ram, "full").reason()).isPresent();
      program.killProgram();
      SnapshotCut.assertNobodyHangs(guest);
      program.awaitLoaded();
      JsonNode only = program.guests().getFirst();
      assertThat(only.path("remaining").asLong(-1)).as("%s", only).isZero();
      assertThat(saved(program, ram, "again").reason()).isPresent();
      assertThat(saved(program, ram, "next"))
          .isEqualTo(SnapshotLineage.from(directory.resolve("again").toString()));
      assertNobodyWaitedLong(guest);
    }
  }
}
