package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.UffdGuest;
import dev.postcopyd.outgoing.background.Incremental;
import dev.postcopyd.outgoing.background.SnapshotOptions;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.snapshot.SnapshotLineage;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.JsonNode;

/**
 * Snapshots made from the one before, of guests that handed their memory over and that write
 * numbers into their pages, and give pages back, between and during them: each is loaded lazily
 * into another guest, which finds in every page exactly what the first had noted at its pause.
 */
@Timeout(value = 900, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class IncrementalSnapshotIT {
  private static final long BYTES = 32L << 20;

  /** How many of them in a row: a hundred with {@code scripts/test --soak}. */
  private static final int GENERATIONS =
      Integer.getInteger(
          "postcopyd.soak.snapshots", System.getProperty("postcopyd.soak") == null ? 5 : 100);

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

  private SnapshotLineage saved(Served served, Path file) throws Exception {
    JsonNode end = served.snapshot(file);
    assertThat(end.path("status").asString("")).as("%s", end).isEqualTo("completed");
    return SnapshotCut.lineageOf(file);
  }

  private void assertConsistentCut(Path file) throws Exception {
    SnapshotCut.assertConsistent(directory, file, directory.resolve("ram"), "size=32M");
  }

  @Test
  void everyGenerationIsOfOneMoment() throws Exception {
    try (Served served = serve();
        UffdGuest guest = stamping(served, "size=32M", "--events=remove", "--timeout", "850")) {
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
      JsonNode _ = SnapshotCut.assertRight(guest);
    }
  }

  /**
   * Pieces of memory are moved, change places, are unmapped, or others are mapped there; with
   * events and without.
   */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        // What was protected where it was is protected where it is now.
        "m | remove,unmap,remap | unmapped or moved memory since the latest",
        "s | remove,unmap,remap | unmapped or moved memory since the latest",
        "u | remove,unmap,remap | unmapped or moved memory since the latest",
        "n | none | ''",
        "g | none | ''"
      })
  void whateverBecomesOfItsMemoryTheNextIsRight(String change, String events, String reason)
      throws Exception {
    try (Served served = serve();
        UffdGuest guest = stamping(served, "size=32M", "--events=" + events)) {
      SnapshotLineage _ = saved(served, directory.resolve("0"));
      assertThat(guest.command(change)).startsWith("{");
      SnapshotCut.assertNobodyHangs(guest);
      Path next = directory.resolve("1");
      SnapshotLineage lineage = saved(served, next);
      if (reason.isEmpty()) {
        assertThat(lineage).isEqualTo(SnapshotLineage.from(directory.resolve("0").toString()));
      } else {
        assertThat(lineage.reason().orElseThrow()).contains(reason);
      }
      assertConsistentCut(next);
      Path last = directory.resolve("2");
      assertThat(saved(served, last)).isEqualTo(SnapshotLineage.from(next.toString()));
      assertConsistentCut(last);
      JsonNode _ = SnapshotCut.assertRight(guest);
    }
  }

  /** Nobody can tell where it is, or whether it is anywhere. */
  @ParameterizedTest
  @CsvSource({"m,remove", "u,none"})
  void whatGoesWithoutAnEventIsNotSaved(String change, String events) throws Exception {
    try (Served served = serve();
        UffdGuest guest = stamping(served, "size=32M", "--events=" + events)) {
      SnapshotLineage _ = saved(served, directory.resolve("0"));
      assertThat(guest.command(change)).startsWith("{");
      SnapshotCut.assertNobodyHangs(guest);
      for (int i = 1; i < 3; i++) {
        Path next = directory.resolve(String.valueOf(i));
        JsonNode end = served.snapshot(next);
        assertThat(end.path("status").asString("")).as("%s", end).isEqualTo("failed");
        assertThat(end.path("error-desc").asString("")).contains("no event");
        assertThat(next).doesNotExist();
      }
      JsonNode _ = SnapshotCut.assertRight(guest);
    }
  }

  /**
   * A child gets a copy of what is protected; it is a guest of its own, which writes to all of it.
   */
  @Test
  void aChildIsForkedInBetween() throws Exception {
    try (Served served = serve();
        UffdGuest guest = stamping(served, "size=32M", "--events=remove,fork")) {
      SnapshotLineage _ = saved(served, directory.resolve("0"));
      assertThat(guest.command("f")).as(guest.story()).startsWith("{");
      SnapshotCut.assertNobodyHangs(guest);
      served.awaitGuests(1);
      Path next = directory.resolve("1");
      assertThat(saved(served, next))
          .isEqualTo(SnapshotLineage.from(directory.resolve("0").toString()));
      assertConsistentCut(next);
      JsonNode _ = SnapshotCut.assertRight(guest);
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
        assertThat(guest.command("g")).startsWith("{");
      }
      JsonNode _ = SnapshotCut.assertRight(guest);
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
      JsonNode _ = SnapshotCut.assertRight(guest);
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
