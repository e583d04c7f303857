package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.UffdGuest;
import dev.postcopyd.outgoing.background.Incremental;
import dev.postcopyd.outgoing.background.SnapshotOptions;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotLineage;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.snapshot.VmmState;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/**
 * Snapshots made from the one before, of guests that handed their memory over and that write
 * numbers into their pages, and give pages back, between and during them: each is loaded lazily
 * into another guest, which finds in every page exactly what the first had noted at its pause.
 */
@Timeout(value = 240, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class IncrementalSnapshotIT {
  private static final long BYTES = 32L << 20;

  /** How many of them in a row: a hundred with {@code scripts/test --soak}. */
  private static final int GENERATIONS = System.getProperty("postcopyd.soak") == null ? 5 : 100;

  @TempDir Path directory;

  private Served serve() throws Exception {
    Path ram = UffdGuest.pattern(directory.resolve("ram"), BYTES);
    return new Served(directory, "h", ram, "", new SnapshotOptions(64L << 20, Incremental.COPY));
  }

  private UffdGuest stamping(Served served, String region, String... more) throws Exception {
    UffdGuest guest =
        served.guest(
            Stream.concat(
                    Stream.of(
                        "--region",
                        region,
                        "--stamps",
                        "--threads",
                        "3",
                        "--seconds",
                        "1000",
                        "--pause-us",
                        "50",
                        "--file",
                        directory.resolve("ram").toString()),
                    List.of(more).stream())
                .toArray(String[]::new));
    assertThat(guest.line()).isEqualTo("stamping");
    served.await("completed");
    served.capabilities(true);
    return guest;
  }

  private static Snapshot open(Path file) throws Exception {
    return SnapshotOpener.open(NativeFile.open(file, NativeFile.Mode.READ), 0);
  }

  private SnapshotLineage saved(Served served, Path file) throws Exception {
    JsonNode end = served.snapshot(file);
    assertThat(end.path("status").asString("")).as("%s", end).isEqualTo("completed");
    try (Snapshot snapshot = open(file)) {
      return SnapshotLineage.of(snapshot.machineState().orElseThrow()).orElseThrow();
    }
  }

  private void assertConsistentCut(Path file) throws Exception {
    byte[] state;
    try (Snapshot snapshot = open(file)) {
      state = VmmState.of(snapshot.machineState().orElseThrow()).orElseThrow();
    }
    Path noted = Files.write(directory.resolve("state"), state);
    try (Served other = new Served(directory, "other", file, "", SnapshotOptions.DEFAULT);
        UffdGuest guest =
            other.guest(
                "--region",
                "size=32M",
                "--file",
                directory.resolve("ram").toString(),
                "--expect-stamps",
                noted.toString())) {
      JsonNode report = guest.report();
      assertThat(report.path("wrong-pages").asLong(-1)).as(guest.story()).isZero();
      assertThat(report.path("verified-pages").asLong()).isPositive();
      assertThat(guest.awaitExit()).as(guest.story()).isEqualTo(UffdGuest.RIGHT);
    }
  }

  private static void assertRight(UffdGuest guest) throws Exception {
    guest.tell("q");
    assertThat(guest.report().path("wrong-pages").asLong(-1)).as(guest.story()).isZero();
    assertThat(guest.awaitExit()).as(guest.story()).isEqualTo(UffdGuest.RIGHT);
  }

  @Test
  void everyGenerationIsOfOneMoment() throws Exception {
    try (Served served = serve();
        UffdGuest guest = stamping(served, "size=32M", "--events=remove")) {
      Path before = directory.resolve("0");
      assertThat(saved(served, before).reason()).isPresent();
      assertConsistentCut(before);
      for (int i = 1; i < GENERATIONS; i++) {
        // Pages given back between two snapshots, after writes and before others.
        TimeUnit.MILLISECONDS.sleep(30);
        assertThat(guest.command("g")).startsWith("{");
        TimeUnit.MILLISECONDS.sleep(i % 3 * 30L);
        Path next = directory.resolve(String.valueOf(i));
        assertThat(saved(served, next)).isEqualTo(SnapshotLineage.from(before.toString()));
        assertConsistentCut(next);
        Files.delete(before);
        before = next;
      }
      assertRight(guest);
    }
  }

  /** What was protected where it was is protected where it is now. */
  @Test
  void memoryMovesInBetweenAndNobodyHangs() throws Exception {
    try (Served served = serve();
        UffdGuest guest = stamping(served, "size=32M", "--events=remove,unmap,remap")) {
      SnapshotLineage _ = saved(served, directory.resolve("0"));
      assertThat(guest.command("m")).startsWith("{");
      long before = QmpJson.parse(guest.command("p")).path("writes").asLong();
      TimeUnit.MILLISECONDS.sleep(300);
      long after = QmpJson.parse(guest.command("p")).path("writes").asLong();
      assertThat(after).as(guest.story()).isGreaterThan(before + 300);
      Path next = directory.resolve("1");
      assertThat(saved(served, next).reason()).isPresent();
      assertConsistentCut(next);
      assertRight(guest);
    }
  }

  @Test
  void sharedMemoryIsSavedInFull() throws Exception {
    try (Served served = serve();
        UffdGuest guest = stamping(served, "size=32M,backing=memfd")) {
      for (int i = 0; i < 2; i++) {
        Path file = directory.resolve(String.valueOf(i));
        assertThat(saved(served, file).reason().orElseThrow()).contains("shared");
        assertConsistentCut(file);
      }
      assertRight(guest);
    }
  }

  @Test
  void cancelledInBetweenAndThenTaken() throws Exception {
    try (Served served = serve();
        UffdGuest guest = stamping(served, "size=32M")) {
      SnapshotLineage _ = saved(served, directory.resolve("0"));
      for (int i = 0; i < 3; i++) {
        served.migrate(directory.resolve("cancelled"));
        TimeUnit.MILLISECONDS.sleep(i * 5L);
        JsonNode _ = served.qmp.execute("migrate_cancel", QmpJson.object());
        String status = served.awaitEnd().path("status").asString("");
        SnapshotLineage made = saved(served, directory.resolve("next"));
        if (status.equals("cancelled")) {
          assertThat(made.reason().orElseThrow()).contains("cancelled");
        } else {
          assertThat(made.base()).isPresent();
        }
        assertConsistentCut(directory.resolve("next"));
      }
      assertRight(guest);
    }
  }

  /** Nothing is protected any more when the daemon has gone, and nobody waits. */
  @Test
  void theDaemonEndsInBetweenAndTheGuestGoesOn() throws Exception {
    Served served = serve();
    try (UffdGuest guest = stamping(served, "size=32M", "--seconds", "5")) {
      SnapshotLineage _ = saved(served, directory.resolve("0"));
      served.daemon.close();
      // A thread that waits for somebody would keep it from its end.
      assertThat(guest.report().path("wrong-pages").asLong(-1)).as(guest.story()).isZero();
      assertThat(guest.awaitExit()).as(guest.story()).isEqualTo(UffdGuest.RIGHT);
    } finally {
      served.close();
    }
  }
}
