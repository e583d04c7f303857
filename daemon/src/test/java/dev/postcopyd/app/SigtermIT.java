package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * The program itself, as a process: SIGTERM ends it in every state of loads and saves with exit
 * code 0, in less than the ten seconds after which Docker kills, and nothing is left behind.
 *
 * <p>States that last long enough are met on a snapshot of 64 GiB; setup and postcopy-device are
 * held by a {@link Debugger}, which holds the one thread that carries out the load's steps.
 */
@Timeout(value = 180, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class SigtermIT {
  private static final Duration PATIENCE = Duration.ofSeconds(60);
  private static final int DOCKER_GRACE_SECONDS = 10;
  private static final long LARGE_BYTES = 64L << 30;

  /** A quick end is well below this also on a busy machine. */
  private static final Duration SOON = Duration.ofSeconds(3);

  private static final String STEPS = "dev.postcopyd.incoming.IncomingMigration";

  @TempDir Path directory;

  private Optional<Process> running = Optional.empty();

  @AfterEach
  void endProgram() throws InterruptedException {
    if (running.isPresent()) {
      running.get().destroyForcibly().waitFor();
    }
  }

  @Test
  void beforeAnyLoad() throws Exception {
    Process program = start();
    try (QmpClient client = connect()) {
      assertThat(client.execute("query-status").path("status").asString("")).isEqualTo("inmigrate");
      Duration took = assertEndsWell(program);
      assertThat(took).isLessThan(SOON);
      assertThat(eventsOf(client)).containsExactly("SHUTDOWN");
    }
  }

  /** From before the JVM has read its first class until the program listens. */
  @Test
  void whileItStarts() throws Exception {
    for (int millis = 0; millis <= 700; millis += 70) {
      Process program = start();
      TimeUnit.MILLISECONDS.sleep(millis);
      program.destroy();
      assertThat(program.waitFor(DOCKER_GRACE_SECONDS, TimeUnit.SECONDS)).isTrue();
      assertThat(program.exitValue())
          .as("after " + millis + " ms: 143 as long as nothing had been made, then 0")
          .isIn(0, 143);
      assertNothingLeft();
    }
  }

  @Test
  void inSetup() throws Exception {
    try (Debugger debugger = Debugger.listen()) {
      Process program = start("POSTCOPYD_JAVA_OPTIONS", debugger.jvmOption());
      debugger.holdAt(STEPS, "openSnapshot");
      try (QmpClient client = connect()) {
        enable(client, "mapped-ram", "postcopy-ram", "events");
        load(client, sparse(8 << 20));
        debugger.awaitHeld();
        assertThat(status(client)).isEqualTo("setup");
        program.destroy();
        assertThat(awaitMigration(client, "cancelling")).containsExactly("setup", "cancelling");
        debugger.letGo();
        assertThat(awaitGoodEnd(program)).isLessThan(SOON);
      }
    }
  }

  @Test
  void inPostcopyDevice() throws Exception {
    try (Debugger debugger = Debugger.listen()) {
      Process program = start("POSTCOPYD_JAVA_OPTIONS", debugger.jvmOption());
      debugger.holdAt(STEPS, "handOverDeviceState");
      try (QmpClient client = connect()) {
        enable(client, "mapped-ram", "postcopy-ram", "events");
        load(client, sparse(8 << 20));
        debugger.awaitHeld();
        assertThat(status(client)).isEqualTo("postcopy-device");
        program.destroy();
        assertThat(awaitMigration(client, "cancelling"))
            .containsExactly("setup", "postcopy-device", "cancelling");
        debugger.letGo();
        assertThat(awaitGoodEnd(program)).isLessThan(SOON);
      }
    }
  }

  /** What an open of a file on a server that does not answer is like. */
  @Test
  void inAStepThatNeverEnds() throws Exception {
    try (Debugger debugger = Debugger.listen()) {
      Process program = start("POSTCOPYD_JAVA_OPTIONS", debugger.jvmOption());
      debugger.holdAt("dev.postcopyd.incoming.SnapshotLocation$AtPath", "open");
      try (QmpClient client = connect();
          QmpClient other = connect()) {
        enable(client, "mapped-ram", "postcopy-ram", "events");
        Thread loading =
            Thread.ofPlatform()
                .start(() ->
                    assertThatThrownBy(() -> load(client, sparse(8 << 20)))
                        .isInstanceOf(QmpException.class)
                        .hasMessage(
                            "the load was cancelled before file:"
                                + directory.resolve("ram-8388608")
                                + " was open"));
        debugger.awaitHeld();
        program.destroy();
        assertThat(awaitMigration(other, "cancelling")).containsExactly("setup", "cancelling");
        loading.join();
        assertThat(awaitGoodEnd(program))
            .as("the step is waited for a while, and then no longer")
            .isBetween(Duration.ofSeconds(3), Duration.ofSeconds(DOCKER_GRACE_SECONDS));
      }
    }
  }

  @Test
  void inPostcopyActiveAndAfterAFailedLoad() throws Exception {
    Process program = start();
    try (QmpClient client = connect()) {
      enable(client, "mapped-ram", "postcopy-ram", "events");
      load(client, Files.writeString(directory.resolve("text"), "no snapshot"));
      assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
      load(client, large());
      assertThat(awaitMigration(client, "postcopy-active"))
          .containsExactly("setup", "postcopy-device", "postcopy-active");
      assertThat(assertEndsWell(program)).isLessThan(SOON);
      assertThat(migrationsOf(client)).containsExactly("cancelling");
    }
  }

  @Test
  void inFailed() throws Exception {
    Process program = start();
    try (QmpClient client = connect()) {
      enable(client, "mapped-ram", "postcopy-ram", "events");
      load(client, Files.writeString(directory.resolve("text"), "no snapshot"));
      assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
      assertThat(assertEndsWell(program)).isLessThan(SOON);
      assertThat(migrationsOf(client)).isEmpty();
    }
  }

  @Test
  void inActiveOfAPlainLoad() throws Exception {
    Process program = start();
    try (QmpClient client = connect()) {
      enable(client, "mapped-ram", "events");
      load(client, sparse(8L << 30));
      assertThat(awaitMigration(client, "active")).containsExactly("setup", "active");
      assertThat(assertEndsWell(program)).isLessThan(SOON);
      assertThat(migrationsOf(client)).containsExactly("cancelling");
    }
  }

  @Test
  void afterACancelledLoad() throws Exception {
    Process program = start();
    try (QmpClient client = connect()) {
      enable(client, "mapped-ram", "postcopy-ram", "events");
      load(client, large());
      List<String> _ = awaitMigration(client, "postcopy-active");
      JsonNode _ = client.execute("migrate_cancel");
      assertThat(awaitMigration(client, "cancelled")).containsExactly("cancelling", "cancelled");
      assertThat(status(client)).isEqualTo("cancelled");
      assertThat(assertEndsWell(program)).isLessThan(SOON);
      assertThat(migrationsOf(client)).isEmpty();
    }
  }

  @Test
  void inCompleted() throws Exception {
    Process program = start();
    try (QmpClient client = connect()) {
      enable(client, "mapped-ram", "postcopy-ram", "events");
      load(client, sparse(8 << 20));
      List<String> _ = awaitMigration(client, "completed");
      assertThat(assertEndsWell(program)).isLessThan(SOON);
      assertThat(migrationsOf(client)).isEmpty();
    }
  }

  @Test
  void duringASave() throws Exception {
    Process program = start();
    try (QmpClient client = connect()) {
      enable(client, "mapped-ram", "events");
      load(client, large());
      List<String> _ = awaitMigration(client, "completed");
      Path out = directory.resolve("saved.mr");
      JsonNode _ = client.execute("migrate", QmpJson.object().put("uri", "file:" + out));
      assertThat(awaitMigration(client, "active")).containsExactly("setup", "active");
      assertThat(assertEndsWell(program)).isLessThan(SOON);
      assertThat(migrationsOf(client)).containsExactly("cancelling", "cancelled");
      try (Stream<Path> files = Files.list(directory)) {
        assertThat(files.map(file -> file.getFileName().toString()))
            .as("neither the file nor a part of it")
            .noneMatch(name -> name.contains("saved"));
      }
    }
  }

  /** A log that nobody reads blocks whoever writes to it, the end of the program included. */
  @Test
  void withALogThatNobodyReads() throws Exception {
    ProcessBuilder builder = command().redirectError(ProcessBuilder.Redirect.PIPE);
    builder.command().addAll(List.of("--log-level", "trace"));
    Process program = run(builder);
    try (QmpClient client = connect()) {
      enable(client, "mapped-ram");
      Thread filling = Thread.ofPlatform().daemon().start(() -> fillTheLog(client));
      assertThat(filling.join(Duration.ofSeconds(5)))
          .as("the daemon no longer answers, because its log is full")
          .isFalse();
      long before = System.nanoTime();
      // Not Process.destroy, which closes the pipe as well.
      assertThat(program.toHandle().destroy()).isTrue();
      assertThat(program.waitFor(DOCKER_GRACE_SECONDS, TimeUnit.SECONDS)).isTrue();
      assertThat(program.exitValue()).isEqualTo(143);
      assertThat(Duration.ofNanos(System.nanoTime() - before)).isGreaterThan(SOON);
      assertNothingLeft();
    }
  }

  private void fillTheLog(QmpClient client) {
    for (int i = 0; i < 10_000; i++) {
      try {
        load(client, directory.resolve("missing"));
      } catch (QmpException notThere) {
        // It is what fills the log.
      } catch (IOException end) {
        return;
      }
    }
  }

  private ProcessBuilder command() {
    Path launcher =
        Path.of(
            System.getProperty("postcopyd.root", ".."),
            "daemon",
            "target",
            "postcopyd",
            "bin",
            "postcopyd");
    return new ProcessBuilder(
            new ArrayList<>(
                List.of(
                    launcher.toString(),
                    "run",
                    "--qmp",
                    "unix:" + directory.resolve("qmp"),
                    "--http",
                    "127.0.0.1:0",
                    "--pidfile",
                    directory.resolve("pid").toString())))
        .redirectOutput(directory.resolve("out").toFile())
        .redirectError(directory.resolve("err").toFile());
  }

  private Process start(String... environment) throws IOException {
    ProcessBuilder builder = command();
    for (int i = 0; i < environment.length; i += 2) {
      builder.environment().put(environment[i], environment[i + 1]);
    }
    return run(builder);
  }

  private Process run(ProcessBuilder builder) throws IOException {
    Process process = builder.start();
    running = Optional.of(process);
    return process;
  }

  private QmpClient connect() throws IOException, InterruptedException {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (true) {
      try {
        return QmpClient.connectAndNegotiate(
            UnixDomainSocketAddress.of(directory.resolve("qmp")), PATIENCE);
      } catch (IOException e) {
        if (System.nanoTime() > deadline) {
          throw new IOException(
              "the program does not listen: " + Files.readString(directory.resolve("err")), e);
        }
        TimeUnit.MILLISECONDS.sleep(20);
      }
    }
  }

  private Duration assertEndsWell(Process program) throws InterruptedException, IOException {
    program.destroy();
    return awaitGoodEnd(program);
  }

  /** Waits for the end and says how long that took. */
  private Duration awaitGoodEnd(Process program) throws InterruptedException, IOException {
    long before = System.nanoTime();
    assertThat(program.waitFor(DOCKER_GRACE_SECONDS, TimeUnit.SECONDS))
        .as("ends within the grace period")
        .isTrue();
    Duration took = Duration.ofNanos(System.nanoTime() - before);
    assertThat(program.exitValue()).as(Files.readString(directory.resolve("err"))).isZero();
    assertNothingLeft();
    return took;
  }

  private void assertNothingLeft() {
    assertThat(directory.resolve("qmp")).as("the socket").doesNotExist();
    assertThat(directory.resolve("pid")).as("the pidfile").doesNotExist();
  }

  private static void enable(QmpClient client, String... names) throws IOException, QmpException {
    ObjectNode arguments = QmpJson.object();
    ArrayNode list = arguments.putArray("capabilities");
    for (String name : names) {
      list.addObject().put("capability", name).put("state", true);
    }
    JsonNode _ = client.execute("migrate-set-capabilities", arguments);
  }

  private static void load(QmpClient client, Path file) throws IOException, QmpException {
    JsonNode _ = client.execute("migrate-incoming", QmpJson.object().put("uri", "file:" + file));
  }

  private static String status(QmpClient client) throws IOException, QmpException {
    return client.execute("query-migrate").path("status").asString("");
  }

  /** The statuses of the MIGRATION events up to this one, since the last that was awaited. */
  private static List<String> awaitMigration(QmpClient client, String wanted) throws IOException {
    List<String> statuses = new ArrayList<>();
    while (!statuses.contains(wanted)) {
      Event event = client.awaitEvent(next -> next.name().equals("MIGRATION"), PATIENCE);
      statuses.add(Objects.requireNonNull(event.data()).path("status").asString(""));
    }
    return statuses;
  }

  /** What else came before the connection ended. */
  private static List<Event> restOf(QmpClient client) {
    List<Event> events = new ArrayList<>();
    try {
      for (Event event = client.nextEvent(PATIENCE);
          event != null;
          event = client.nextEvent(PATIENCE)) {
        events.add(event);
      }
    } catch (IOException end) {
      // The program has ended, and the connection with it.
    }
    return events;
  }

  private static List<String> eventsOf(QmpClient client) {
    return restOf(client).stream().map(Event::name).toList();
  }

  private static List<String> migrationsOf(QmpClient client) {
    return restOf(client).stream()
        .filter(event -> event.name().equals("MIGRATION"))
        .map(event -> Objects.requireNonNull(event.data()).path("status").asString(""))
        .toList();
  }

  /** Raw memory of zeros, every page of which counts as data. */
  private Path sparse(long bytes) throws IOException {
    Path file = directory.resolve("ram-" + bytes);
    try (RandomAccessFile out = new RandomAccessFile(file.toFile(), "rw")) {
      out.setLength(bytes);
    }
    return file;
  }

  /** A snapshot without a page of data: it takes neither disk nor memory, but time. */
  private Path large() throws IOException {
    Path file = directory.resolve("large.mr");
    try (Snapshot golden =
            SnapshotOpener.open(
                NativeFile.open(GoldenSnapshot.of("demo").file(), NativeFile.Mode.READ), 0);
        NativeFile out = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE)) {
      long _ =
          MappedRamWriter.create(
                  out,
                  0,
                  golden.machineState().orElseThrow(),
                  List.of(new MappedRamWriter.Block("pc.ram", LARGE_BYTES)))
              .finish();
    }
    return file;
  }
}
