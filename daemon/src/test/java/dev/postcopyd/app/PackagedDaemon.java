package dev.postcopyd.app;

import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * The packaged program as {@code postcopyd run}, with a QMP socket, a pidfile and its log in the
 * test's directory, and what tests say to it. Closing kills it.
 */
final class PackagedDaemon implements AutoCloseable {
  static final Duration PATIENCE = Duration.ofSeconds(60);

  private final Path directory;
  private final Process process;

  private PackagedDaemon(Path directory, Process process) {
    this.directory = directory;
    this.process = process;
  }

  /**
   * How one is started, which is then changed or started.
   *
   * @param prefix a program and its arguments that become postcopyd, such as setpriv
   */
  static ProcessBuilder command(Path directory, String... prefix) {
    return command(directory, home(), prefix);
  }

  /** What the build has made: the program's directory. */
  static Path home() {
    return Path.of(System.getProperty("postcopyd.root", ".."), "daemon", "target", "postcopyd");
  }

  static ProcessBuilder command(Path directory, Path home, String... prefix) {
    List<String> command = new ArrayList<>(List.of(prefix));
    command.addAll(
        List.of(
            home.resolve("bin/postcopyd").toString(),
            "run",
            "--qmp",
            "unix:" + directory.resolve("qmp"),
            "--http",
            "127.0.0.1:0",
            "--pidfile",
            directory.resolve("pid").toString()));
    return new ProcessBuilder(command)
        .redirectOutput(directory.resolve("out").toFile())
        .redirectError(directory.resolve("err").toFile());
  }

  static PackagedDaemon start(Path directory, ProcessBuilder command) throws IOException {
    return new PackagedDaemon(directory, command.start());
  }

  static PackagedDaemon start(Path directory, Map<String, String> environment) throws IOException {
    ProcessBuilder command = command(directory);
    command.environment().putAll(environment);
    return start(directory, command);
  }

  Process process() {
    return process;
  }

  /** What it has logged. */
  String log() throws IOException {
    return Files.readString(directory.resolve("err"));
  }

  /** A client of its own for whoever asks, once the program listens. */
  QmpClient connect() throws IOException, InterruptedException {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (true) {
      try {
        return QmpClient.connectAndNegotiate(
            UnixDomainSocketAddress.of(directory.resolve("qmp")), PATIENCE);
      } catch (IOException e) {
        if (System.nanoTime() > deadline || !process.isAlive()) {
          throw new IOException("the program does not listen: " + log(), e);
        }
        TimeUnit.MILLISECONDS.sleep(20);
      }
    }
  }

  static void enable(QmpClient client, String... names) throws IOException, QmpException {
    set(client, true, names);
  }

  static void disable(QmpClient client, String... names) throws IOException, QmpException {
    set(client, false, names);
  }

  private static void set(QmpClient client, boolean state, String... names)
      throws IOException, QmpException {
    ObjectNode arguments = QmpJson.object();
    ArrayNode list = arguments.putArray("capabilities");
    for (String name : names) {
      list.addObject().put("capability", name).put("state", state);
    }
    JsonNode _ = client.execute("migrate-set-capabilities", arguments);
  }

  static void load(QmpClient client, Path file) throws IOException, QmpException {
    JsonNode _ = client.execute("migrate-incoming", QmpJson.object().put("uri", "file:" + file));
  }

  static String status(QmpClient client) throws IOException, QmpException {
    return client.execute("query-migrate").path("status").asString("");
  }

  static String errorOf(QmpClient client) throws IOException, QmpException {
    return client.execute("query-migrate").path("error-desc").asString("");
  }

  /** The statuses of the MIGRATION events up to this one, since the last that was awaited. */
  static List<String> awaitMigration(QmpClient client, String wanted) throws IOException {
    List<String> statuses = new ArrayList<>();
    while (!statuses.contains(wanted)) {
      statuses.add(status(client.awaitEvent(event -> event.name().equals("MIGRATION"), PATIENCE)));
    }
    return statuses;
  }

  static String status(Event migration) {
    return Objects.requireNonNull(migration.data()).path("status").asString("");
  }

  @Override
  public void close() {
    try {
      int _ = process.destroyForcibly().waitFor();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
