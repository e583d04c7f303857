package dev.postcopyd.lab;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * One process of a test: its standard error goes to a file, and it does not outlive the test's JVM.
 */
final class LabProcess {
  private static final Duration PATIENCE = Duration.ofSeconds(30);
  private static final Set<Process> RUNNING = ConcurrentHashMap.newKeySet();

  static {
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(() -> RUNNING.forEach(Process::destroyForcibly), "lab-cleanup"));
  }

  private final Process process;
  private final Path stderr;

  private LabProcess(Process process, Path stderr) {
    this.process = process;
    this.stderr = stderr;
  }

  static LabProcess start(List<String> command, Path directory, Path stderr) throws IOException {
    return start(command, directory, stderr, Map.of());
  }

  static LabProcess start(
      List<String> command, Path directory, Path stderr, Map<String, String> environment)
      throws IOException {
    ProcessBuilder builder =
        new ProcessBuilder(command).directory(directory.toFile()).redirectError(stderr.toFile());
    builder.environment().putAll(environment);
    Process process = builder.start();
    RUNNING.add(process);
    return new LabProcess(process, stderr);
  }

  Process process() {
    return process;
  }

  boolean isAlive() {
    return process.isAlive();
  }

  /** What the process has written to its standard error, with its exit code once it has ended. */
  String story() {
    try {
      String written = Files.readString(stderr, StandardCharsets.UTF_8);
      return process.isAlive() ? written : written + "[exit code " + process.exitValue() + "]";
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Waits for the process to end by itself. */
  int awaitExit() throws InterruptedException, TimeoutException {
    if (!process.waitFor(PATIENCE.toMillis(), TimeUnit.MILLISECONDS)) {
      throw new TimeoutException("the process has not ended in " + PATIENCE + "\n" + story());
    }
    RUNNING.remove(process);
    return process.exitValue();
  }

  void kill() {
    try {
      process.destroyForcibly().waitFor();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    RUNNING.remove(process);
  }
}
