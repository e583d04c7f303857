package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * A background snapshot of the guest {@code memory} as a QMP client commands it, while a thread
 * goes round over all pages and writes the number of its round into each: in the snapshot, loaded
 * again, the pages before some place are of one round, and the others of the round before.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class MemoryBackgroundSnapshotIT {
  private static final int PAGE = 4096;
  private static final long BYTES = 16L << 20;
  private static final int WORD = 1024;

  @TempDir Path directory;

  private volatile boolean writing = true;
  private volatile long begun;

  private void goRound(LocalGuest guest) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment number = arena.allocate(8, 8);
      for (long round = 1; writing; round++) {
        begun = round;
        number.set(ValueLayout.JAVA_LONG, 0, round);
        for (long page = 0; page < BYTES / PAGE; page++) {
          GuestMemoryAccess.copy(
              guest.baseAddresses()[0] + page * PAGE + WORD, number.address(), 8);
        }
      }
    }
  }

  private static JsonNode await(QmpClient qmp, String wanted) throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    JsonNode now = qmp.execute("query-migrate");
    while (!now.path("status").asString("").equals(wanted)) {
      assertThat(System.nanoTime()).as("%s", now).isLessThan(end);
      TimeUnit.MILLISECONDS.sleep(5);
      now = qmp.execute("query-migrate");
    }
    return now;
  }

  private static void set(QmpClient qmp, String... capabilities) throws IOException, QmpException {
    ObjectNode arguments = QmpJson.object();
    ArrayNode list = arguments.putArray("capabilities");
    for (String capability : capabilities) {
      boolean off = capability.startsWith("-");
      list.addObject()
          .put("capability", off ? capability.substring(1) : capability)
          .put("state", !off);
    }
    JsonNode _ = qmp.execute("migrate-set-capabilities", arguments);
  }

  private static void tell(QmpClient qmp, String command, Path file)
      throws IOException, QmpException {
    JsonNode _ = qmp.execute(command, QmpJson.object().put("uri", "file:" + file));
  }

  @Test
  void savedWhileItIsWrittenToAndLoadedAgain() throws Exception {
    Path socket = directory.resolve("qmp");
    Path saved = directory.resolve("saved");
    Path source = DataSnapshot.create(directory.resolve("source"), BYTES);
    try (Daemon daemon =
            Daemon.start(
                DaemonConfig.of(List.of(SocketSpec.parse("unix:" + socket)))
                    .withWorkingSet(WorkingSetChoice.OFF));
        QmpClient qmp =
            QmpClient.connectAndNegotiate(
                UnixDomainSocketAddress.of(socket), Duration.ofSeconds(30))) {
      set(qmp, "mapped-ram", "background-snapshot");
      assertThatThrownBy(() -> tell(qmp, "migrate", saved))
          .hasMessageContaining("Guest is waiting for an incoming migration");
      assertThatThrownBy(() -> set(qmp, "postcopy-ram"))
          .hasMessageContaining("Background-snapshot is not compatible with postcopy-ram");
      set(qmp, "-background-snapshot", "postcopy-ram");
      tell(qmp, "migrate-incoming", source);
      JsonNode _ = await(qmp, "completed");
      set(qmp, "-postcopy-ram", "background-snapshot");
      LocalGuest guest = daemon.guest().orElseThrow();
      Thread writer = Thread.ofPlatform().start(() -> goRound(guest));
      while (begun < 3) {
        TimeUnit.MILLISECONDS.sleep(5);
      }
      JsonNode statusBefore = qmp.execute("query-status");
      tell(qmp, "migrate", saved);
      JsonNode end = await(qmp, "completed");
      writing = false;
      assertThat(writer.join(Duration.ofSeconds(20))).isTrue();
      assertThat(end.has("downtime")).as("%s", end).isTrue();
      assertThat(end.path("ram").path("normal").asLong()).isPositive();
      assertThat(qmp.execute("query-status")).isEqualTo(statusBefore);
      set(qmp, "-background-snapshot", "postcopy-ram");
      tell(qmp, "migrate-incoming", saved);
      JsonNode _ = await(qmp, "completed");
      assertOneMoment(daemon.guest().orElseThrow());
    }
  }

  private static void assertOneMoment(LocalGuest guest) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment number = arena.allocate(8, 8);
      long first = 0;
      long before = Long.MAX_VALUE;
      for (long page = 0; page < BYTES / PAGE; page++) {
        GuestMemoryAccess.copy(number.address(), guest.baseAddresses()[0] + page * PAGE + WORD, 8);
        long round = number.get(ValueLayout.JAVA_LONG, 0);
        first = page == 0 ? round : first;
        assertThat(round)
            .as("page %d", page)
            .isBetween(first - 1, first)
            .isLessThanOrEqualTo(before);
        before = round;
      }
      assertThat(first).isGreaterThan(1);
    }
  }
}
