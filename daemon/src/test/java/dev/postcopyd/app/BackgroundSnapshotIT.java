package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.lab.ReservedHugePages;
import dev.postcopyd.lab.UffdGuest;
import dev.postcopyd.outgoing.background.Incremental;
import dev.postcopyd.outgoing.background.SnapshotOptions;
import dev.postcopyd.qmp.codec.QmpJson;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.JsonNode;

/**
 * Background snapshots of guests that handed their memory over, and that write numbers into their
 * pages meanwhile from several threads: each snapshot is loaded lazily into another guest, which
 * finds in every page exactly what the first had noted at its pause.
 */
@Timeout(value = 1_800, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class BackgroundSnapshotIT {
  private static final long BYTES = 32L << 20;

  /** How many snapshots of each kind of memory: a hundred with {@code scripts/test --soak}. */
  private static final int ROUNDS =
      Integer.getInteger(
          "postcopyd.soak.snapshots", System.getProperty("postcopyd.soak") == null ? 2 : 100);

  @TempDir Path directory;

  private final List<AutoCloseable> open = new ArrayList<>();
  private Path ram = Path.of("");

  @AfterEach
  void stop() throws Exception {
    for (AutoCloseable one : open.reversed()) {
      one.close();
    }
  }

  private Served serve(String options) throws Exception {
    return serve(options, 64L << 20);
  }

  private Served serve(String options, long bufferBytes) throws Exception {
    ram = UffdGuest.pattern(directory.resolve("ram"), BYTES);
    Served served =
        new Served(directory, "h", ram, options, new SnapshotOptions(bufferBytes, Incremental.OFF));
    open.add(served);
    return served;
  }

  private UffdGuest stamping(Served served, String region, String... more) throws Exception {
    List<String> arguments =
        new ArrayList<>(
            List.of(
                "--region",
                region,
                "--stamps",
                "--threads",
                "3",
                "--seconds",
                "1000",
                "--pause-us",
                "20",
                "--file",
                ram.toString()));
    arguments.addAll(List.of(more));
    UffdGuest guest = served.guest(arguments.toArray(String[]::new));
    assertThat(guest.line()).isEqualTo("stamping");
    served.await("completed");
    served.capabilities(true);
    return guest;
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "size=32M | --events=remove",
        "size=32M,backing=memfd | --events=remove",
        "size=32M,backing=memfd,minor=on | --pass-memfds"
      })
  void everySnapshotIsOfOneMoment(String region, String option) throws Exception {
    assertEverySnapshotIsOfOneMoment(region, option, "size=32M");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "size=32M,page=2M | --events=remove",
        "size=32M,page=2M,backing=memfd | --events=remove"
      })
  void everySnapshotOfHugePagesIsOfOneMoment(String region, String option) throws Exception {
    try (ReservedHugePages _ = ReservedHugePages.of2M(32)) {
      assertEverySnapshotIsOfOneMoment(region, option, "size=32M,page=2M");
    }
  }

  private void assertEverySnapshotIsOfOneMoment(String region, String option, String asLoaded)
      throws Exception {
    Served served = serve("");
    try (UffdGuest guest = stamping(served, region, "--timeout", "1500", option)) {
      for (int i = 0; i < ROUNDS; i++) {
        Path file = directory.resolve("snapshot" + i);
        JsonNode end = served.snapshot(file);
        assertThat(end.path("status").asString("")).as("%s", end).isEqualTo("completed");
        assertThat(end.path("downtime").asLong(-1)).isNotNegative();
        assertThat(end.path("ram").path("remaining").asLong(-1)).isZero();
        SnapshotCut.assertConsistent(directory, file, ram, asLoaded);
        Files.delete(file);
      }
      assertThat(SnapshotCut.assertRight(guest).path("pauses").asInt()).isEqualTo(ROUNDS);
    }
  }

  /** Writers that hardly rest, and no room to copy to. */
  @Test
  void aSmallBufferThrottlesAndTheSnapshotIsRight() throws Exception {
    Served served = serve("", 1);
    try (UffdGuest guest = stamping(served, "size=32M", "--pause-us", "0")) {
      Path file = directory.resolve("snapshot");
      assertThat(served.snapshot(file).path("status").asString("")).isEqualTo("completed");
      SnapshotCut.assertConsistent(directory, file, ram, "size=32M");
      JsonNode _ = SnapshotCut.assertRight(guest);
    }
  }

  @Test
  void blocksByNameComeTogetherAgain() throws Exception {
    Served served = serve("");
    Path file = directory.resolve("snapshot");
    try (UffdGuest guest =
        stamping(
            served,
            "size=12M,ramblock=ram,offset=20M",
            "--region",
            "size=20M,ramblock=ram,offset=0")) {
      JsonNode end = served.snapshot(file);
      assertThat(end.path("status").asString("")).as("%s", end).isEqualTo("completed");
      SnapshotCut.assertConsistent(
          directory,
          file,
          ram,
          "size=12M,ramblock=ram,offset=20M",
          "size=20M,ramblock=ram,offset=0");
      JsonNode _ = SnapshotCut.assertRight(guest);
    }
  }

  @Test
  void refusedBeforeAllOfMemoryIsThere() throws Exception {
    Served served = serve(",eager=off");
    served.capabilities(true);
    try (UffdGuest guest = served.guest("--region", "size=32M", "--commands")) {
      assertThat(guest.line()).isEqualTo("ready");
      assertThat(guest.command("check 0 1")).startsWith("right");
      assertThatThrownBy(() -> served.migrate(directory.resolve("snapshot")))
          .hasMessageContaining(
              "a background snapshot can be made only when all of the guest's memory is there")
          .hasMessageContaining("postcopy-active");
      assertNothingIsLeft();
    }
  }

  @Test
  void aPlainSaveIsRefusedAndSoIsOneWithoutGuest() throws Exception {
    Served served = serve("");
    served.capabilities(false);
    assertThatThrownBy(() -> served.migrate(directory.resolve("x")))
        .hasMessageContaining("only with the capabilities background-snapshot and mapped-ram");
    served.capabilities(true);
    assertThatThrownBy(() -> served.migrate(directory.resolve("x")))
        .hasMessageContaining("no guest has handed its memory over");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "error | the VMM can't pause its guest: not in the mood",
        "remove | the VMM has given back or unmapped memory that was not saved yet"
      })
  void whatTheVmmDoesInstead(String answer, String reason) throws Exception {
    Served served = serve("");
    try (UffdGuest guest = stamping(served, "size=32M", "--pause-answer", answer)) {
      Path file = directory.resolve("snapshot");
      JsonNode end = served.snapshot(file);
      assertThat(end.path("status").asString("")).as("%s", end).isEqualTo("failed");
      assertThat(end.path("error-desc").asString("")).contains(reason);
      assertNothingIsLeft();
      guest.tell("q");
      assertThat(guest.report().path("writes").asLong()).isPositive();
      assertThat(guest.awaitExit()).as(guest.story()).isEqualTo(UffdGuest.RIGHT);
    }
  }

  @Test
  void cancelledAgainAndAgainAndThenTaken() throws Exception {
    Served served = serve("");
    try (UffdGuest guest = stamping(served, "size=32M")) {
      int cancelled = 0;
      for (int i = 0; i < 8; i++) {
        served.migrate(directory.resolve("snapshot"));
        TimeUnit.MICROSECONDS.sleep(i * 2_000L);
        JsonNode _ = served.qmp.execute("migrate_cancel", QmpJson.object());
        JsonNode end = served.awaitEnd();
        assertThat(end.path("status").asString("")).as("%s", end).isIn("cancelled", "completed");
        if (end.path("status").asString("").equals("cancelled")) {
          cancelled++;
          assertNothingIsLeft();
        } else {
          Files.delete(directory.resolve("snapshot"));
        }
      }
      assertThat(cancelled).isPositive();
      Path file = directory.resolve("snapshot");
      JsonNode end = served.snapshot(file);
      assertThat(end.path("status").asString("")).as("%s", end).isEqualTo("completed");
      SnapshotCut.assertConsistent(directory, file, ram, "size=32M");
      JsonNode _ = SnapshotCut.assertRight(guest);
    }
  }

  @Test
  void aVmmThatDiesInTheMiddle() throws Exception {
    Served served = serve("");
    for (int i = 0; i < 4; i++) {
      try (UffdGuest guest = stamping(served, "size=32M")) {
        served.migrate(directory.resolve("snapshot"));
        TimeUnit.MICROSECONDS.sleep(i * 4_000L);
        guest.kill();
        JsonNode end = served.awaitEnd();
        if (end.path("status").asString("").equals("completed")) {
          Files.delete(directory.resolve("snapshot"));
        } else {
          assertThat(end.path("status").asString("")).as("%s", end).isEqualTo("failed");
          assertNothingIsLeft();
        }
      }
      served.awaitGuests(0);
    }
  }

  @Test
  void aFullDiskFailsAndTheGuestGoesOn() throws Exception {
    Path disk = Files.createDirectory(directory.resolve("disk"));
    run("mount", "-t", "tmpfs", "-o", "size=8m", "none", disk.toString());
    try {
      Served served = serve("");
      try (UffdGuest guest = stamping(served, "size=32M")) {
        JsonNode end = served.snapshot(disk.resolve("snapshot"));
        assertThat(end.path("status").asString("")).as("%s", end).isEqualTo("failed");
        assertThat(end.path("error-desc").asString("")).contains("ENOSPC");
        try (var left = Files.list(disk)) {
          assertThat(left).isEmpty();
        }
        JsonNode _ = SnapshotCut.assertRight(guest);
      }
    } finally {
      run("umount", disk.toString());
    }
  }

  private void assertNothingIsLeft() {
    assertThat(directory.resolve("snapshot")).doesNotExist();
    assertThat(directory.resolve(".snapshot.partial")).doesNotExist();
  }

  private static void run(String... command) throws Exception {
    assertThat(new ProcessBuilder(command).inheritIO().start().waitFor()).isZero();
  }
}
