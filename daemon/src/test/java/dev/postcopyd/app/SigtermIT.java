package dev.postcopyd.app;

import static dev.postcopyd.app.PackagedDaemon.awaitMigration;
import static dev.postcopyd.app.PackagedDaemon.enable;
import static dev.postcopyd.app.PackagedDaemon.load;
import static dev.postcopyd.app.PackagedDaemon.status;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/**
 * The program itself, as a process: SIGTERM ends it in every state of loads and saves with exit
 * code 0, in less than the ten seconds after which Docker kills, and nothing is left behind.
 *
 * <p>States that last long enough are met on a snapshot of 64 GiB; setup and postcopy-device are
 * held by a {@link Debugger}, which holds the one thread that carries out the load's steps.
 */
@Timeout(value = 180, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class SigtermIT {
  private static final int DOCKER_GRACE_SECONDS = 10;
  private static final long LARGE_BYTES = 64L << 30;

  /** A quick end is well below this also on a busy machine. */
  private static final Duration SOON = Duration.ofSeconds(3);

  private static final String STEPS = "dev.postcopyd.incoming.IncomingMigration";

  @TempDir Path directory;

  private Optional<PackagedDaemon> running = Optional.empty();

  @AfterEach
  void endProgram() {
    running.ifPresent(PackagedDaemon::close);
  }

  @Test
  void beforeAnyLoad() throws Exception {
    PackagedDaemon program = start();
    try (QmpClient client = program.connect()) {
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
      PackagedDaemon program = start();
      TimeUnit.MILLISECONDS.sleep(millis);
      program.process().destroy();
      assertThat(program.process().waitFor(DOCKER_GRACE_SECONDS, TimeUnit.SECONDS)).isTrue();
      assertThat(program.process().exitValue())
          .as("after " + millis + " ms: 143 as long as nothing had been made, then 0")
          // 1 is the JVM's own answer to a signal that comes while it loads the main class.
          .isIn(millis <= 350 ? List.of(0, 143, 1) : List.of(0, 143));
      assertNothingLeft();
    }
  }

  @Test
  void inSetup() throws Exception {
    try (Debugger debugger = Debugger.listen()) {
      PackagedDaemon program = start(debugger);
      debugger.holdAt(STEPS, "armForFaults");
      try (QmpClient client = program.connect()) {
        enable(client, "mapped-ram", "postcopy-ram", "events");
        load(client, sparse(8 << 20));
        debugger.awaitHeld();
        assertThat(status(client)).isEqualTo("setup");
        program.process().destroy();
        assertThat(awaitMigration(client, "cancelling")).containsExactly("setup", "cancelling");
        debugger.letGo();
        assertThat(awaitGoodEnd(program)).isLessThan(SOON);
      }
    }
  }

  @Test
  void inPostcopyDevice() throws Exception {
    try (Debugger debugger = Debugger.listen()) {
      PackagedDaemon program = start(debugger);
      debugger.holdAt(STEPS, "handOverDeviceState");
      try (QmpClient client = program.connect()) {
        enable(client, "mapped-ram", "postcopy-ram", "events");
        load(client, sparse(8 << 20));
        debugger.awaitHeld();
        assertThat(status(client)).isEqualTo("postcopy-device");
        program.process().destroy();
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
      PackagedDaemon program = start(debugger);
      debugger.holdAt("dev.postcopyd.incoming.SnapshotLocation$AtPath", "open");
      try (QmpClient client = program.connect();
          QmpClient other = program.connect()) {
        enable(client, "mapped-ram", "postcopy-ram", "events");
        FutureTask<Throwable> loading =
            new FutureTask<>(() -> catchThrowable(() -> load(client, sparse(8 << 20))));
        Thread _ = Thread.ofPlatform().start(loading);
        debugger.awaitHeld();
        program.process().destroy();
        assertThat(awaitMigration(other, "cancelling")).containsExactly("setup", "cancelling");
        assertThat(loading.get())
            .isInstanceOf(QmpException.class)
            .hasMessage(
                "the load was cancelled before file:"
                    + directory.resolve("ram-8388608")
                    + " was open");
        assertThat(awaitGoodEnd(program))
            .as("the step is waited for a while, and then no longer")
            .isBetween(Duration.ofSeconds(3), Duration.ofSeconds(DOCKER_GRACE_SECONDS));
      }
    }
  }

  @Test
  void inPostcopyActiveAndAfterAFailedLoad() throws Exception {
    PackagedDaemon program = start();
    try (QmpClient client = program.connect()) {
      enable(client, "mapped-ram", "postcopy-ram", "events");
      load(client, Files.writeString(directory.resolve("text"), "no snapshot"));
      assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
      load(client, large());
      assertThat(awaitMigration(client, "postcopy-active"))
          .containsExactly("setup", "postcopy-device", "postcopy-active");
      assertThat(assertEndsWell(program)).isLessThan(SOON);
      assertThat(migrationsOf(client)).containsExactly("cancelling", "cancelled");
    }
  }

  @Test
  void inFailed() throws Exception {
    PackagedDaemon program = start();
    try (QmpClient client = program.connect()) {
      enable(client, "mapped-ram", "postcopy-ram", "events");
      load(client, Files.writeString(directory.resolve("text"), "no snapshot"));
      assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
      assertThat(assertEndsWell(program)).isLessThan(SOON);
      assertThat(migrationsOf(client)).isEmpty();
    }
  }

  @Test
  void inActiveOfAPlainLoad() throws Exception {
    PackagedDaemon program = start();
    try (QmpClient client = program.connect()) {
      enable(client, "mapped-ram", "events");
      load(client, sparse(4L << 30));
      assertThat(awaitMigration(client, "active")).containsExactly("setup", "active");
      assertThat(assertEndsWell(program)).isLessThan(SOON);
      assertThat(migrationsOf(client)).containsExactly("cancelling", "cancelled");
    }
  }

  @Test
  void afterACancelledLoad() throws Exception {
    PackagedDaemon program = start();
    try (QmpClient client = program.connect()) {
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
    PackagedDaemon program = start();
    try (QmpClient client = program.connect()) {
      enable(client, "mapped-ram", "postcopy-ram", "events");
      load(client, sparse(8 << 20));
      List<String> _ = awaitMigration(client, "completed");
      assertThat(assertEndsWell(program)).isLessThan(SOON);
      assertThat(migrationsOf(client)).isEmpty();
    }
  }

  @Test
  void duringASave() throws Exception {
    PackagedDaemon program = start();
    try (QmpClient client = program.connect()) {
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
    PackagedDaemon program =
        start(PackagedDaemon.command(directory).redirectError(ProcessBuilder.Redirect.PIPE));
    try (QmpClient client = program.connect()) {
      enable(client, "mapped-ram");
      Thread filling = Thread.ofPlatform().daemon().start(() -> fillTheLog(client));
      assertThat(filling.join(Duration.ofSeconds(5)))
          .as("the daemon no longer answers, because its log is full")
          .isFalse();
      long before = System.nanoTime();
      // Not Process.destroy, which closes the pipe as well.
      assertThat(program.process().toHandle().destroy()).isTrue();
      assertThat(program.process().waitFor(DOCKER_GRACE_SECONDS, TimeUnit.SECONDS)).isTrue();
      assertThat(program.process().exitValue()).isEqualTo(143);
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

  private PackagedDaemon start() throws IOException {
    return start(PackagedDaemon.command(directory));
  }

  private PackagedDaemon start(Debugger debugger) throws IOException {
    ProcessBuilder command = PackagedDaemon.command(directory);
    command.environment().put("POSTCOPYD_JAVA_OPTIONS", debugger.jvmOption());
    return start(command);
  }

  private PackagedDaemon start(ProcessBuilder command) throws IOException {
    PackagedDaemon program = PackagedDaemon.start(directory, command);
    running = Optional.of(program);
    return program;
  }

  private Duration assertEndsWell(PackagedDaemon program) throws InterruptedException, IOException {
    program.process().destroy();
    return awaitGoodEnd(program);
  }

  /** Waits for the end and says how long that took. */
  private Duration awaitGoodEnd(PackagedDaemon program) throws InterruptedException, IOException {
    long before = System.nanoTime();
    assertThat(program.process().waitFor(DOCKER_GRACE_SECONDS, TimeUnit.SECONDS))
        .as("ends within the grace period")
        .isTrue();
    Duration took = Duration.ofNanos(System.nanoTime() - before);
    assertThat(program.process().exitValue()).as(program.log()).isZero();
    assertNothingLeft();
    return took;
  }

  private void assertNothingLeft() {
    assertThat(directory.resolve("qmp")).as("the socket").doesNotExist();
    assertThat(directory.resolve("pid")).as("the pidfile").doesNotExist();
  }

  /** What else came before the connection ended. */
  private static List<Event> restOf(QmpClient client) {
    List<Event> events = new ArrayList<>();
    try {
      for (Event event = client.nextEvent(PackagedDaemon.PATIENCE);
          event != null;
          event = client.nextEvent(PackagedDaemon.PATIENCE)) {
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
        .map(PackagedDaemon::status)
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

  private Path large() throws IOException {
    return LargeSnapshot.create(directory.resolve("large.mr"), LARGE_BYTES);
  }
}
