package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.lab.QmpErrorReply;
import dev.postcopyd.lab.RawQmp;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.tls.TestCredentials;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

/**
 * One daemon has a snapshot, another the guest: pages over QEMU's wire protocol, with threads that
 * wait for them.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class PageServerIT {
  private static final long RAM_BYTES = 16L << 20;

  @TempDir Path directory;
  private Path snapshot;
  private String uri;
  private Daemon guestDaemon;
  private QmpConnection guest;
  private final List<AutoCloseable> opened = new ArrayList<>();
  private @Nullable QmpConnection startedSource;

  @BeforeEach
  void startGuest() throws Exception {
    snapshot = DataSnapshot.create(directory.resolve("vm.mr"), RAM_BYTES);
    uri = "unix:" + directory.resolve("mig");
    Path qmp = directory.resolve("qmp");
    guestDaemon = Daemon.start(DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp))));
    guest = QmpConnection.to(qmp);
  }

  @AfterEach
  void stop() throws Exception {
    guest.close();
    guestDaemon.close();
    for (AutoCloseable each : opened.reversed()) {
      each.close();
    }
    assertThat(directory.resolve("mig")).doesNotExist();
  }

  private void startSource(String options, long bytesPerSecond) throws Exception {
    Path qmp = directory.resolve("source-qmp");
    opened.add(
        Daemon.start(
            DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
                .withGuest(GuestSpec.parse("stream:" + uri + options))));
    QmpConnection connection = QmpConnection.to(qmp);
    opened.add(connection);
    startedSource = connection;
    connection.enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
    connection.execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", bytesPerSecond));
  }

  private QmpConnection source() {
    return Objects.requireNonNull(startedSource);
  }

  private void incoming(boolean preempt) throws Exception {
    guest.enableCapabilities(
        preempt
            ? List.of("postcopy-ram", "postcopy-preempt", "postcopy-blocktime")
            : List.of("postcopy-ram", "postcopy-blocktime"));
    guest.execute("migrate-incoming", Map.of("uri", uri));
  }

  private void serve() throws Exception {
    source().execute("migrate-incoming", Map.of("uri", "file:" + snapshot));
  }

  /** Touches pages here and there, as a guest would. */
  private List<Thread> touch(int threads, int pagesEach) {
    LocalGuest memory = guestDaemon.guest().orElseThrow();
    List<Thread> touchers = new ArrayList<>();
    for (int i = 0; i < threads; i++) {
      Random random = new Random(i);
      touchers.add(
          Thread.ofPlatform()
              .daemon()
              .start(() -> {
                RamBlock block = memory.table().blocks().getFirst();
                for (int n = 0; n < pagesEach; n++) {
                  long page = random.nextLong(block.pageCount());
                  int errno = memory.memoryOf(block).populateRead(page * 4096, 4096);
                  assertThat(errno).isZero();
                }
              }));
    }
    return touchers;
  }

  private static void join(List<Thread> threads) throws InterruptedException {
    for (Thread thread : threads) {
      assertThat(thread.join(java.time.Duration.ofSeconds(30))).isTrue();
    }
  }

  private JsonNode awaitWholeGuest() throws Exception {
    guest.awaitMigration("completed");
    source().awaitMigration("completed");
    assertThat(GuestComparison.differingPages(guestDaemon.guest().orElseThrow(), snapshot, 0))
        .isZero();
    JsonNode info = guest.execute("query-migrate");
    assertThat(info.path("ram").path("remaining").asLong()).isZero();
    assertThat(info.path("ram").path("total").asLong()).isEqualTo(RAM_BYTES + 37 * 4096);
    return info;
  }

  @ParameterizedTest
  @CsvSource({"false, 0", "true, 0", "false, 4194304", "true, 4194304"})
  void snapshotOnAnotherHostIsServed(boolean preempt, long bytesPerSecond) throws Exception {
    startSource(preempt ? ",preempt=on" : ",preempt=off", bytesPerSecond);
    incoming(preempt);
    serve();
    guest.awaitMigration("postcopy-active");
    List<Thread> touchers = touch(4, 300);
    join(touchers);
    source().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
    JsonNode info = awaitWholeGuest();
    assertThat(guest.migrationStatuses())
        .containsExactly("setup", "active", "postcopy-device", "postcopy-active", "completed");
    if (bytesPerSecond > 0) {
      assertThat(info.path("ram").path("postcopy-requests").asLong()).isPositive();
      assertThat(info.path("postcopy-latency").asLong()).isPositive();
    }
  }

  /** All of it comes although nothing is sent by itself; what is waited for comes first. */
  @ParameterizedTest
  @ValueSource(strings = {"off", "on"})
  void sourceThatOnlyAnswersIsReadAhead(String preempt) throws Exception {
    startSource(",eager=off,preempt=" + preempt, 0);
    incoming(preempt.equals("on"));
    serve();
    guest.awaitMigration("postcopy-active");
    join(touch(2, 200));
    JsonNode _ = awaitWholeGuest();
  }

  /** And a snapshot of it is the same snapshot. */
  @Test
  void whatWasServedCanBeSaved() throws Exception {
    startSource(",preempt=off", 0);
    incoming(false);
    serve();
    JsonNode _ = awaitWholeGuest();
    Path copy = directory.resolve("copy.mr");
    guest.enableCapabilities(List.of("mapped-ram"));
    guest.execute("migrate", Map.of("uri", "file:" + copy));
    guest.awaitMigration("completed");
    assertThat(GuestComparison.differingPages(guestDaemon.guest().orElseThrow(), copy, 0)).isZero();
    assertThat(devicesOf(copy)).isEqualTo(devicesOf(snapshot));
  }

  private static byte[] devicesOf(Path file) throws IOException {
    try (Snapshot opened = SnapshotOpener.open(NativeFile.open(file, NativeFile.Mode.READ), 0)) {
      return opened.machineState().orElseThrow().deviceSections();
    }
  }

  /** The connection is lost again and again, and threads that wait go on waiting. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void guestOutlivesLostConnections(boolean preempt) throws Exception {
    startSource(preempt ? ",preempt=on" : ",preempt=off", 3 << 20);
    incoming(preempt);
    serve();
    guest.awaitMigration("postcopy-active");
    List<Thread> touchers = touch(3, 400);
    Random random = new Random(3);
    for (int round = 0; round < 4; round++) {
      TimeUnit.MILLISECONDS.sleep(20 + random.nextInt(100));
      guest.execute("migrate-pause");
      guest.awaitMigration("postcopy-paused");
      source().awaitMigration("postcopy-paused");
      String again = "unix:" + directory.resolve("again" + round);
      guest.execute("migrate-recover", Map.of("uri", again));
      guest.awaitMigration("postcopy-recover-setup");
      source().execute("migrate-recover", Map.of("uri", again));
      guest.awaitMigration("postcopy-active");
      source().awaitMigration("postcopy-active");
    }
    source().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
    join(touchers);
    JsonNode _ = awaitWholeGuest();
  }

  private Path credentials() throws Exception {
    return new TestCredentials("authority").writeTo(directory.resolve("tls"));
  }

  private void namesCredentials(Path from) throws Exception {
    guest.execute(
        "object-add",
        Map.of(
            "qom-type",
            "tls-creds-x509",
            "id",
            "tls0",
            "endpoint",
            "server",
            "dir",
            from.toString()));
    guest.execute("migrate-set-parameters", Map.of("tls-creds", "tls0"));
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void pagesComeEncrypted(boolean preempt) throws Exception {
    Path tls = credentials();
    namesCredentials(tls);
    startSource((preempt ? ",preempt=on" : ",preempt=off") + ",tls-creds=" + tls, 4 << 20);
    incoming(preempt);
    serve();
    guest.awaitMigration("postcopy-active");
    join(touch(4, 200));
    source().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
    JsonNode _ = awaitWholeGuest();
  }

  /** Who does not speak TLS is no source, and keeps none from coming. */
  @Test
  void sourceWithoutCredentialsIsNotHeard() throws Exception {
    Path tls = credentials();
    namesCredentials(tls);
    incoming(false);
    startSource(",preempt=off", 0);
    serve();
    source().awaitMigration("failed");
    assertThat(guest.execute("query-migrate").path("status").asString()).isEqualTo("setup");
  }

  /** Both sides are handed the ends of one connection; there is no other address. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void guestGoesOnThroughADescriptor(boolean encrypted) throws Exception {
    String options = ",preempt=off";
    if (encrypted) {
      Path tls = credentials();
      namesCredentials(tls);
      options += ",tls-creds=" + tls;
    }
    startSource(options, 3 << 20);
    incoming(false);
    serve();
    guest.awaitMigration("postcopy-active");
    List<Thread> touchers = touch(3, 400);
    guest.execute("migrate-pause");
    guest.awaitMigration("postcopy-paused");
    source().awaitMigration("postcopy-paused");
    int[] pair = UnixSocket.socketPair();
    try (RawQmp guestSide = new RawQmp(directory.resolve("qmp"));
        RawQmp sourceSide = new RawQmp(directory.resolve("source-qmp"))) {
      String getfd = "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"mig\"}}";
      String recover = "{\"execute\": \"migrate-recover\", \"arguments\": {\"uri\": \"fd:mig\"}}";
      guestSide.execute(getfd, pair[0]);
      sourceSide.execute(getfd, pair[1]);
      guestSide.execute(recover);
      guest.awaitMigration("postcopy-recover-setup");
      sourceSide.execute(recover);
    } finally {
      FileDescriptors.close(pair[0]);
      FileDescriptors.close(pair[1]);
    }
    guest.awaitMigration("postcopy-active");
    source().execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
    join(touchers);
    JsonNode _ = awaitWholeGuest();
  }

  @Test
  void cancelledMigrationGivesEverythingBack() throws Exception {
    startSource(",preempt=off", 1 << 20);
    incoming(false);
    serve();
    guest.awaitMigration("postcopy-active");
    guest.execute("migrate_cancel");
    guest.awaitMigration("cancelled");
    assertThat(guestDaemon.guest()).isEmpty();
    incoming(false);
    guest.execute("migrate_cancel");
    guest.awaitMigration("cancelled");
  }

  @Test
  void sourceThatSwitchesOverNeedsTheCapability() throws Exception {
    startSource(",preempt=off", 0);
    guest.enableCapabilities(List.of());
    guest.execute("migrate-incoming", Map.of("uri", uri));
    serve();
    try {
      guest.awaitMigration("completed");
      throw new AssertionError("taken");
    } catch (IOException e) {
      assertThat(e).hasMessageContaining("postcopy-ram, which is off here");
    }
  }

  @Test
  void largerPagesAreForSnapshots() throws Exception {
    Path qmp = directory.resolve("huge");
    try (Daemon _ =
            Daemon.start(
                DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
                    .withGuest(GuestSpec.parse("memory,page-size=2M")));
        QmpConnection huge = QmpConnection.to(qmp)) {
      huge.enableCapabilities(List.of("postcopy-ram"));
      assertThat(
              org.assertj.core.api.Assertions.catchThrowable(
                  () -> huge.execute("migrate-incoming", Map.of("uri", uri))))
          .isInstanceOf(QmpErrorReply.class)
          .hasMessageContaining("leave page-size out");
    }
  }
}
