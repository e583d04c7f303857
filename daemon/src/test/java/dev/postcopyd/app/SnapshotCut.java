package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.UffdGuest;
import dev.postcopyd.outgoing.background.SnapshotOptions;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotLineage;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.snapshot.VmmState;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import tools.jackson.databind.JsonNode;

/**
 * Snapshots of guests that write numbers into their pages (uffd-guest {@code --stamps}): the state
 * of such a guest's devices is what it had noted of every page at the pause.
 */
final class SnapshotCut {
  private SnapshotCut() {}

  private static Snapshot open(Path file) throws Exception {
    return SnapshotOpener.open(NativeFile.open(file, NativeFile.Mode.READ), 0);
  }

  /** What the file says of where it comes from. */
  static SnapshotLineage lineageOf(Path file) throws Exception {
    try (Snapshot snapshot = open(file)) {
      return SnapshotLineage.of(snapshot.machineState().orElseThrow()).orElseThrow();
    }
  }

  /**
   * Loads a snapshot lazily into another guest, which finds in every page exactly what the first
   * had noted.
   *
   * @param ram what pages hold that were never written to
   * @param regions the memory that it is loaded into
   */
  static void assertConsistent(Path directory, Path file, Path ram, String... regions)
      throws Exception {
    Path state = directory.resolve(file.getFileName() + ".state");
    try (Snapshot snapshot = open(file)) {
      Path _ = Files.write(state, VmmState.of(snapshot.machineState().orElseThrow()).orElseThrow());
    }
    List<String> arguments =
        new ArrayList<>(List.of("--file", ram.toString(), "--expect-stamps", state.toString()));
    for (String region : regions) {
      arguments.addAll(List.of("--region", region));
    }
    try (Served served =
            new Served(directory, file.getFileName() + ".cut", file, "", SnapshotOptions.DEFAULT);
        UffdGuest guest = served.guest(arguments.toArray(String[]::new))) {
      JsonNode report = guest.report();
      assertThat(report.path("wrong-pages").asLong(-1)).as(guest.story()).isZero();
      assertThat(report.path("verified-pages").asLong()).isPositive();
      assertThat(guest.awaitExit()).as(guest.story()).isEqualTo(UffdGuest.RIGHT);
    }
    Files.delete(state);
  }

  /** All of its threads go on writing, which soon come to every part of memory. */
  static void assertNobodyHangs(UffdGuest guest) throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
    long enough = writes(guest) + 500;
    while (writes(guest) < enough) {
      assertThat(System.nanoTime()).as(guest.story()).isLessThan(end);
      TimeUnit.MILLISECONDS.sleep(20);
    }
  }

  private static long writes(UffdGuest guest) throws Exception {
    return QmpJson.parse(guest.command("p")).path("writes").asLong();
  }

  /** Ends the guest, which has never seen a wrong page; answers what it says in the end. */
  static JsonNode assertRight(UffdGuest guest) throws Exception {
    guest.tell("q");
    JsonNode report = guest.report();
    assertThat(report.path("wrong-pages").asLong(-1)).as(guest.story()).isZero();
    assertThat(guest.awaitExit()).as(guest.story()).isEqualTo(UffdGuest.RIGHT);
    return report;
  }
}
