package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.lab.RawQmp;
import dev.postcopyd.lab.UffdGuest;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.tls.TestCredentials;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

/** A VMM's memory, filled over the wire from a snapshot that another daemon has. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class UffdPageServerIT {
  private static final long BYTES = 16L << 20;

  @TempDir Path directory;
  private final List<AutoCloseable> opened = new ArrayList<>();
  private Path pattern = Path.of("");
  private Path snapshot = Path.of("");
  private String uri = "";
  private @Nullable QmpConnection startedGuests;
  private @Nullable QmpConnection startedSource;

  @BeforeEach
  void start() throws Exception {
    pattern = UffdGuest.pattern(directory.resolve("ram"), BYTES);
    snapshot = DataSnapshot.ofRaw(directory.resolve("vm.mr"), pattern);
    uri = "unix:" + directory.resolve("mig");
    Path qmp = directory.resolve("qmp");
    GuestSpec.HandedOver guest =
        (GuestSpec.HandedOver) GuestSpec.parse("uffd:" + directory.resolve("h"));
    opened.add(
        Daemon.start(
            DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
                .withGuest(guest.withoutKeeper())));
    QmpConnection connection = QmpConnection.to(qmp);
    opened.add(connection);
    startedGuests = connection;
    connection.enableCapabilities(List.of("postcopy-ram"));
  }

  private void startSource(String options, long bytesPerSecond) throws Exception {
    Path qmp = directory.resolve("source");
    opened.add(
        Daemon.start(
            DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
                .withGuest(GuestSpec.parse("stream:" + uri + options))
                .withIncoming(Optional.empty())));
    QmpConnection connection = QmpConnection.to(qmp);
    opened.add(connection);
    startedSource = connection;
    connection.enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
    connection.execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", bytesPerSecond));
  }

  @AfterEach
  void stop() throws Exception {
    for (AutoCloseable each : opened.reversed()) {
      each.close();
    }
    assertThat(directory.resolve("mig")).doesNotExist();
  }

  private QmpConnection guests() {
    return Objects.requireNonNull(startedGuests);
  }

  private QmpConnection source() {
    return Objects.requireNonNull(startedSource);
  }

  private UffdGuest guest(String... arguments) throws Exception {
    List<String> all = new ArrayList<>(List.of("--file", pattern.toString()));
    all.addAll(List.of(arguments));
    all.add(directory.resolve("h").toString());
    return UffdGuest.start(directory, all.toArray(String[]::new));
  }

  private static void assertRight(UffdGuest guest) throws Exception {
    JsonNode report = guest.report();
    assertThat(report.path("wrong-pages").asLong(-1)).as(guest.story()).isZero();
    assertThat(guest.awaitExit()).as(guest.story()).isEqualTo(UffdGuest.RIGHT);
  }

  private void serve() throws Exception {
    source().execute("migrate-incoming", Map.of("uri", "file:" + snapshot));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "--region size=16M --threads 3 --verify-rest",
        "--region size=16M,backing=memfd --threads 3 --verify-rest",
        "--region size=16M --threads 3 --remove 50 --remove-pages 8 --write 30 --seconds 0.5 --verify-rest"
      })
  void everyPageIsRightHoweverItIsTouched(String memory) throws Exception {
    startSource(",preempt=off", 0);
    guests().execute("migrate-incoming", Map.of("uri", uri));
    try (UffdGuest guest = guest(memory.split(" "))) {
      serve();
      guests().awaitMigration("postcopy-active");
      assertRight(guest);
      source().awaitMigration("completed");
      JsonNode ram = guests().execute("query-migrate").path("ram");
      assertThat(ram.path("total").asLong()).isEqualTo(BYTES);
      assertThat(ram.path("transferred").asLong()).isGreaterThan(ram.path("normal-bytes").asLong());
      assertThat(ram.path("postcopy-bytes").asLong()).isPositive();
    }
  }

  /** The guest may be there before its source is named; it goes on when its source does. */
  @ParameterizedTest
  @ValueSource(strings = {"off", "on"})
  void guestOutlivesALostConnection(String preempt) throws Exception {
    startSource(",preempt=" + preempt, 4 << 20);
    if (preempt.equals("on")) {
      guests().enableCapabilities(List.of("postcopy-preempt"));
    }
    try (UffdGuest guest =
        guest("--region", "size=16M", "--threads", "2", "--seconds", "2", "--verify-rest")) {
      TimeUnit.MILLISECONDS.sleep(200);
      guests().execute("migrate-incoming", Map.of("uri", uri));
      serve();
      guests().awaitMigration("postcopy-active");
      for (int round = 0; round < 2; round++) {
        TimeUnit.MILLISECONDS.sleep(100);
        guests().execute("migrate-pause");
        guests().awaitMigration("postcopy-paused");
        source().awaitMigration("postcopy-paused");
        String again = "unix:" + directory.resolve("again" + round);
        guests().execute("migrate-recover", Map.of("uri", again));
        source().execute("migrate-recover", Map.of("uri", again));
        guests().awaitMigration("postcopy-active");
        source().awaitMigration("postcopy-active");
      }
      source().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
      assertRight(guest);
      source().awaitMigration("completed");
    }
  }

  /** Encrypted by what the client names; and the second connection is handed over. */
  @Test
  void encryptedGuestGoesOnThroughADescriptor() throws Exception {
    Path tls = new TestCredentials("authority").writeTo(directory.resolve("tls"));
    startSource(",preempt=off,tls-creds=" + tls, 4 << 20);
    guests()
        .execute(
            "object-add",
            Map.of(
                "qom-type",
                "tls-creds-x509",
                "id",
                "tls0",
                "endpoint",
                "server",
                "dir",
                tls.toString()));
    guests().execute("migrate-set-parameters", Map.of("tls-creds", "tls0"));
    try (UffdGuest guest =
        guest("--region", "size=16M", "--threads", "2", "--seconds", "1", "--verify-rest")) {
      guests().execute("migrate-incoming", Map.of("uri", uri));
      serve();
      guests().awaitMigration("postcopy-active");
      // Before that the source would go on with its guest.
      source().awaitMigration("postcopy-active");
      guests().execute("migrate-pause");
      guests().awaitMigration("postcopy-paused");
      source().awaitMigration("postcopy-paused");
      int[] pair = UnixSocket.socketPair();
      try (RawQmp guestSide = new RawQmp(directory.resolve("qmp"));
          RawQmp sourceSide = new RawQmp(directory.resolve("source"))) {
        String getfd = "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"mig\"}}";
        String recover = "{\"execute\": \"migrate-recover\", \"arguments\": {\"uri\": \"fd:mig\"}}";
        guestSide.execute(getfd, pair[0]);
        sourceSide.execute(getfd, pair[1]);
        guestSide.execute(recover);
        sourceSide.execute(recover);
      } finally {
        FileDescriptors.close(pair[0]);
        FileDescriptors.close(pair[1]);
      }
      guests().awaitMigration("postcopy-active");
      source().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
      assertRight(guest);
      source().awaitMigration("completed");
    }
  }

  @Test
  void oneSourceServesOneGuest() throws Exception {
    startSource(",preempt=off", 1 << 20);
    guests().execute("migrate-incoming", Map.of("uri", uri));
    try (UffdGuest guest = guest("--region", "size=16M", "--seconds", "2", "--verify-rest")) {
      serve();
      guests().awaitMigration("postcopy-active");
      try (UffdGuest second = guest("--region", "size=16M")) {
        TimeUnit.MILLISECONDS.sleep(500);
        assertThat(guests().execute("__dev.postcopyd_query-guests")).hasSize(1);
        assertThat(second.isAlive()).isTrue();
      }
      source().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
      assertRight(guest);
    }
  }

  /** It has got nothing: the next source may be the right one. */
  @Test
  void guestThatDoesNotFitWaitsForAnotherSource() throws Exception {
    startSource(",preempt=off", 0);
    guests().execute("migrate-incoming", Map.of("uri", uri));
    try (UffdGuest guest = guest("--region", "size=8M", "--commands")) {
      serve();
      try {
        guests().awaitMigration("completed");
        throw new AssertionError("taken");
      } catch (IOException e) {
        assertThat(e).hasMessageContaining("they must be the same");
      }
      assertThat(guest.isAlive()).isTrue();
    }
  }
}
