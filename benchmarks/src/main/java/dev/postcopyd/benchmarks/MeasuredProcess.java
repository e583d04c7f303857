package dev.postcopyd.benchmarks;

import java.io.BufferedReader;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * A process with a deadline: one that hangs is killed, whereupon reading its output ends. Standard
 * error goes to ours.
 */
final class MeasuredProcess implements AutoCloseable {
  private static final long DEADLINE_SECONDS = 120;
  private static final ScheduledThreadPoolExecutor WATCHDOG = watchdog();

  private final List<String> command;
  private final Process process;
  private final BufferedReader output;
  private final ScheduledFuture<?> deadline;

  private MeasuredProcess(List<String> command, Process process) {
    this.command = command;
    this.process = process;
    this.output = process.inputReader();
    this.deadline = WATCHDOG.schedule(process::destroyForcibly, DEADLINE_SECONDS, TimeUnit.SECONDS);
  }

  private static ScheduledThreadPoolExecutor watchdog() {
    ScheduledThreadPoolExecutor executor =
        new ScheduledThreadPoolExecutor(1, Thread.ofPlatform().name("watchdog").daemon().factory());
    executor.setRemoveOnCancelPolicy(true);
    return executor;
  }

  static MeasuredProcess start(List<String> command) throws IOException {
    return start(command, Map.of());
  }

  /** Starts with more in its environment than we have. */
  static MeasuredProcess start(List<String> command, Map<String, String> environment)
      throws IOException {
    ProcessBuilder builder =
        new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT);
    builder.environment().putAll(environment);
    return new MeasuredProcess(command, builder.start());
  }

  /** Runs a command to its end; answers what it printed. */
  static Measurements run(List<String> command) throws IOException {
    try (MeasuredProcess process = start(command)) {
      return process.finish();
    }
  }

  long pid() {
    return process.pid();
  }

  boolean isAlive() {
    return process.isAlive();
  }

  /** Reads until the process has printed this line. */
  void awaitLine(String wanted) throws IOException {
    for (String line = output.readLine(); line != null; line = output.readLine()) {
      if (line.equals(wanted)) {
        return;
      }
    }
    throw new IOException("ended without saying " + wanted + ": " + String.join(" ", command));
  }

  /** The next line of the output, null at its end. For one thread, and for none of the others. */
  @Nullable String nextLine() throws IOException {
    return output.readLine();
  }

  /** Writes a line to the process's standard input. */
  void writeLine(String line) throws IOException {
    process.outputWriter().write(line + "\n");
    process.outputWriter().flush();
  }

  /** Reads the rest of the output and waits for a good end. */
  Measurements finish() throws IOException {
    StringBuilder rest = new StringBuilder();
    for (String line = output.readLine(); line != null; line = output.readLine()) {
      rest.append(line).append('\n');
    }
    int exitCode = waitFor();
    if (exitCode != 0) {
      throw new IOException("ended with code " + exitCode + ": " + String.join(" ", command));
    }
    return Measurements.parse(rest.toString());
  }

  private int waitFor() throws IOException {
    try {
      return process.waitFor();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted while waiting for " + command.getFirst(), e);
    }
  }

  /** Kills the process if it is still there, and waits for its end. */
  @Override
  public void close() throws IOException {
    boolean _ = deadline.cancel(false);
    process.destroyForcibly();
    int _ = waitFor();
  }
}
