package dev.postcopyd.lab;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectMapper;

/**
 * {@code uffd-guest}: a process whose memory is to be served through the userfaultfd that it hands
 * over; its {@code --help} says what it can do. It ends by itself at its {@code --timeout}. One
 * thread at a time talks to it. Closing kills it.
 */
public final class UffdGuest implements AutoCloseable {
  /** How {@code uffd-guest} ends, from its help. */
  public static final int RIGHT = 0;

  public static final int TROUBLE = 1;
  public static final int WRONG_CONTENTS = 3;
  public static final int SIGBUS = 4;
  public static final int TIMEOUT = 5;

  private static final ObjectMapper JSON = new ObjectMapper();

  private final LabProcess process;
  private final BufferedReader output;

  private UffdGuest(LabProcess process) {
    this.process = process;
    this.output = process.process().inputReader(StandardCharsets.UTF_8);
  }

  /** The compiled program. */
  public static Path program() {
    return NativeProgram.compile(Path.of("daemon/src/test/native/uffd-guest"), "-lm");
  }

  /**
   * Starts one.
   *
   * @param directory for its standard error
   * @param arguments options and the handler's socket, which comes last
   */
  public static UffdGuest start(Path directory, String... arguments) throws IOException {
    // Long, so that a slow machine is no failure; an option of the caller's counts more.
    List<String> command = new ArrayList<>(List.of(program().toString(), "--timeout", "200"));
    command.addAll(List.of(arguments));
    return new UffdGuest(
        LabProcess.start(command, directory, Files.createTempFile(directory, "guest", ".err")));
  }

  /** Writes a file with the contents that guests expect of it. */
  public static Path pattern(Path file, long bytes) throws IOException, InterruptedException {
    Process process =
        new ProcessBuilder(program().toString(), "--fill", file.toString(), Long.toString(bytes))
            .inheritIO()
            .start();
    if (!process.waitFor(60, TimeUnit.SECONDS) || process.exitValue() != 0) {
      throw new IOException("filling " + file + " failed");
    }
    return file;
  }

  public long pid() {
    return process.process().pid();
  }

  public boolean isAlive() {
    return process.isAlive();
  }

  /** The next line that it prints. */
  public String line() throws IOException {
    String line = output.readLine();
    if (line == null) {
      throw new IOException("the guest has ended: " + process.story());
    }
    return line;
  }

  /** The next line that it prints, as JSON. */
  public JsonNode report() throws IOException {
    return JSON.readTree(line());
  }

  /** With {@code --commands}: says a line and answers what comes back. */
  public String command(String command) throws IOException {
    tell(command);
    return line();
  }

  /** The same without waiting for the answer, which {@link #line} has later. */
  public void tell(String command) throws IOException {
    process.process().outputWriter(StandardCharsets.UTF_8).append(command).append('\n').flush();
  }

  /** Waits for its end and answers its exit code. */
  public int awaitExit() throws InterruptedException, TimeoutException {
    return process.awaitExit();
  }

  /** What it has said on standard error, and how it ended. */
  public String story() {
    return process.story();
  }

  /** As a VMM is killed. */
  public void kill() {
    process.kill();
  }

  @Override
  public void close() {
    process.kill();
  }
}
