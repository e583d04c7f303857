package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.UffdGuest;
import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import java.util.stream.Stream;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * The packaged program with {@code --guest uffd:} as its launcher starts it: below its holder,
 * which starts it again when it is killed. Closing kills both.
 */
final class HeldProgram implements AutoCloseable {
  private static final long PATIENCE_MILLIS = 30_000;

  private final Path directory;
  private final PackagedDaemon holder;

  private HeldProgram(Path directory, PackagedDaemon holder) {
    this.directory = directory;
    this.holder = holder;
  }

  /**
   * Starts both, and waits until the program serves.
   *
   * @param guestOptions behind the socket's path, each with its comma
   */
  static HeldProgram start(Path directory, Path snapshot, String guestOptions, String... more)
      throws Exception {
    List<String> arguments = new ArrayList<>(List.of("--incoming", "file:" + snapshot));
    arguments.addAll(List.of(more));
    return startWithout(directory, guestOptions, arguments.toArray(String[]::new));
  }

  /** The same without a snapshot: guests wait until something is named. */
  static HeldProgram startWithout(Path directory, String guestOptions, String... more)
      throws Exception {
    ProcessBuilder command = PackagedDaemon.command(directory);
    command
        .command()
        .addAll(List.of("--guest", "uffd:" + directory.resolve("guests") + guestOptions));
    command.command().addAll(List.of(more));
    command.environment().put("TMPDIR", directory.toString());
    command.environment().remove("XDG_RUNTIME_DIR");
    HeldProgram program = new HeldProgram(directory, PackagedDaemon.start(directory, command));
    try {
      program.awaitServing();
      return program;
    } catch (Exception | AssertionError e) {
      program.close();
      throw e;
    }
  }

  /** Starts a guest that its arguments describe; the socket comes from here. */
  UffdGuest guest(String... arguments) throws IOException {
    List<String> all = new ArrayList<>(List.of(arguments));
    all.add(directory.resolve("guests").toString());
    return UffdGuest.start(directory, all.toArray(String[]::new));
  }

  long holderPid() {
    return holder.process().pid();
  }

  /** The program itself, the holder's one child. */
  ProcessHandle program() throws Exception {
    await("the program runs", () -> child().isPresent());
    return child().orElseThrow();
  }

  private Optional<ProcessHandle> child() {
    return holder.process().children().filter(ProcessHandle::isAlive).findFirst();
  }

  /** SIGSTOP: what guests ask for from now on waits for a successor. */
  void stopProgram() throws Exception {
    String pid = Long.toString(program().pid());
    assertThat(new ProcessBuilder("kill", "-STOP", pid).inheritIO().start().waitFor()).isZero();
  }

  /** SIGKILL; comes back when its successor serves. */
  void killProgram() throws Exception {
    ProcessHandle before = program();
    assertThat(before.destroyForcibly()).isTrue();
    await("a successor runs", () -> child().filter(p -> p.pid() != before.pid()).isPresent());
    awaitServing();
  }

  void awaitServing() throws Exception {
    await(
        "the program answers",
        () -> {
          try (QmpClient client = holder.connect()) {
            return client.execute("query-status").isObject();
          } catch (IOException | QmpException notYet) {
            return false;
          }
        });
  }

  /** The guests, as the program lists them. */
  List<JsonNode> guests() throws IOException, InterruptedException, QmpException {
    try (QmpClient client = holder.connect()) {
      List<JsonNode> guests = new ArrayList<>();
      client.execute("__dev.postcopyd_query-guests").forEach(guests::add);
      return guests;
    }
  }

  /** Begins a background snapshot of the one guest. */
  void save(Path file) throws IOException, InterruptedException, QmpException {
    try (QmpClient client = holder.connect()) {
      ObjectNode arguments = QmpJson.object();
      ArrayNode list = arguments.putArray("capabilities");
      for (String name : List.of("postcopy-ram", "mapped-ram", "background-snapshot")) {
        list.addObject().put("capability", name).put("state", !name.equals("postcopy-ram"));
      }
      JsonNode _ = client.execute("migrate-set-capabilities", arguments);
      JsonNode _ = client.execute("migrate", QmpJson.object().put("uri", "file:" + file));
    }
  }

  /** The same, and waits for its end. */
  void snapshot(Path file) throws Exception {
    save(file);
    await(
        "the snapshot has ended",
        () -> {
          try (QmpClient client = holder.connect()) {
            String status = PackagedDaemon.status(client);
            assertThat(status).as(log()).isIn("setup", "active", "completed");
            return status.equals("completed");
          }
        });
  }

  /** Begins to receive the memory of a guest. */
  void receive(String uri) throws IOException, InterruptedException, QmpException {
    try (QmpClient client = holder.connect()) {
      PackagedDaemon.enable(client, "postcopy-ram");
      JsonNode _ = client.execute("migrate-incoming", QmpJson.object().put("uri", uri));
    }
  }

  /** Waits until the load of the one guest is over, some time after its last page has come. */
  void awaitLoaded() throws Exception {
    awaitGuests(
        "all has come",
        guests ->
            guests.size() == 1
                && guests.getFirst().path("status").asString("").equals("completed"));
  }

  /** Waits until a list of guests is as wanted. */
  void awaitGuests(String what, Predicate<List<JsonNode>> wanted) throws Exception {
    await(what, () -> wanted.test(guests()));
  }

  private void await(String what, Callable<Boolean> condition) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(PATIENCE_MILLIS);
    while (!condition.call()) {
      if (System.nanoTime() > deadline || !holder.process().isAlive()) {
        throw new AssertionError(what + ": not in 30 s; " + holder.log());
      }
      TimeUnit.MILLISECONDS.sleep(20);
    }
  }

  /** What a process has open, by kind: files by their names, the others without their numbers. */
  static Map<String, Integer> openDescriptors(long pid) throws IOException {
    Map<String, Integer> counts = new TreeMap<>();
    try (Stream<Path> links = Files.list(Path.of("/proc", Long.toString(pid), "fd"))) {
      for (Path link : links.toList()) {
        try {
          String target = Files.readSymbolicLink(link).toString();
          counts.merge(target.replaceAll(":\\[\\d+]", ""), 1, Integer::sum);
        } catch (NoSuchFileException closedMeanwhile) {
          // Not open any more.
        }
      }
    }
    return counts;
  }

  static int threads(long pid) throws IOException {
    try (Stream<Path> threads = Files.list(Path.of("/proc", Long.toString(pid), "task"))) {
      return (int) threads.count();
    }
  }

  static int mappings(long pid) throws IOException {
    return Files.readAllLines(Path.of("/proc", Long.toString(pid), "maps")).size();
  }

  /** What both have logged. */
  String log() throws IOException {
    return holder.log();
  }

  Process holder() {
    return holder.process();
  }

  @Override
  public void close() {
    holder.process().descendants().forEach(ProcessHandle::destroyForcibly);
    holder.close();
  }
}
