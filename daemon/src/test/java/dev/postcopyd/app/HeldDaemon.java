package dev.postcopyd.app;

import dev.postcopyd.lab.NativeProgram;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * {@code postcopyd-hold} and below it {@code held-daemon.c}, which obeys lines and says at each of
 * its starts what it was passed. Closing kills both.
 */
final class HeldDaemon implements AutoCloseable {
  private static final int PATIENCE_SECONDS = 20;

  private final Path log;
  private final Process process;
  private final BufferedReader output;
  private long pid;
  private List<String> passed = List.of();

  private HeldDaemon(Path directory, List<String> command) throws IOException {
    this.log = Files.createTempFile(directory, "hold", ".err");
    ProcessBuilder builder =
        new ProcessBuilder(command).directory(directory.toFile()).redirectError(log.toFile());
    builder.environment().put("TMPDIR", directory.toString());
    builder.environment().remove("XDG_RUNTIME_DIR");
    builder.environment().remove("NOTIFY_SOCKET");
    this.process = builder.start();
    this.output = process.inputReader(StandardCharsets.UTF_8);
  }

  static Path holder() {
    return NativeProgram.compile(Path.of("daemon/src/main/native/postcopyd-hold"));
  }

  static Path program() {
    return NativeProgram.compile(Path.of("daemon/src/test/native/held-daemon"));
  }

  /** Starts both, and waits for the daemon's first line. */
  static HeldDaemon start(Path directory, String... options) throws IOException {
    List<String> command = new ArrayList<>(List.of(holder().toString()));
    command.addAll(List.of(options));
    command.add("--");
    command.add(program().toString());
    return startAs(directory, command);
  }

  /** The same with a command line of the caller's. */
  static HeldDaemon startAs(Path directory, List<String> command) throws IOException {
    HeldDaemon held = new HeldDaemon(directory, command);
    try {
      held.awaitStart();
      return held;
    } catch (IOException e) {
      held.close();
      throw e;
    }
  }

  /** Reads what the daemon says at its start: its pid, and what it was passed. */
  void awaitStart() throws IOException {
    List<String> words = List.of(line().split(" "));
    pid = Long.parseLong(words.getFirst());
    passed = words.subList(1, words.size());
  }

  /** The daemon's. */
  long pid() {
    return pid;
  }

  /** What was passed at the last start, as NAME=FILE. */
  List<String> passed() {
    return passed;
  }

  String line() throws IOException {
    String line = output.readLine();
    if (line == null) {
      throw new IOException("the daemon has ended; its holder said: " + log());
    }
    return line;
  }

  void tell(String command) throws IOException {
    process.outputWriter(StandardCharsets.UTF_8).append(command).append('\n').flush();
  }

  String ask(String command) throws IOException {
    tell(command);
    return line();
  }

  /** Has a file held, and waits until it is. */
  void store(String name, String file) throws IOException {
    tell("store " + name + " " + file);
    barrier();
  }

  void barrier() throws IOException {
    String answer = ask("barrier");
    if (!answer.equals("passed")) {
      throw new IOException("barrier: " + answer);
    }
  }

  void killDaemon() throws IOException {
    if (!ProcessHandle.of(pid).map(ProcessHandle::destroyForcibly).orElse(false)) {
      throw new IOException("there is no process " + pid);
    }
  }

  /** Sends a signal to the holder. */
  void signal(String name) throws IOException, InterruptedException {
    Process kill =
        new ProcessBuilder("kill", "-" + name, Long.toString(process.pid())).inheritIO().start();
    if (kill.waitFor() != 0) {
      throw new IOException("kill -" + name + " failed");
    }
  }

  boolean isAlive() {
    return process.isAlive();
  }

  /** The names of the files that the holder has open. */
  List<String> openFiles() throws IOException {
    try (Stream<Path> links = Files.list(Path.of("/proc", Long.toString(process.pid()), "fd"))) {
      List<String> names = new ArrayList<>();
      for (Path link : links.toList()) {
        names.add(Files.readSymbolicLink(link).getFileName().toString());
      }
      return names;
    }
  }

  /** Gives a last command and answers the holder's exit code. */
  int end(String command) throws IOException, InterruptedException {
    tell(command);
    return awaitExit();
  }

  int awaitExit() throws IOException, InterruptedException {
    if (!process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)) {
      throw new IOException("the holder goes on; it said: " + log());
    }
    return process.exitValue();
  }

  /** What both have said on standard error. */
  String log() throws IOException {
    return Files.readString(log);
  }

  @Override
  public void close() {
    process.descendants().forEach(ProcessHandle::destroyForcibly);
    process.destroyForcibly();
  }
}
