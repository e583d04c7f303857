package dev.postcopyd.libvirt;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * libvirt's own client, one process a command. Immutable and safe for any thread.
 *
 * @param connection libvirt's URI; empty for virsh's default
 */
public record Virsh(Optional<String> connection) {
  private static final Duration PATIENCE = Duration.ofMinutes(2);

  /** Whatever it prints beyond that is not for us. */
  private static final int MAX_OUTPUT_BYTES = 4 << 20;

  /**
   * Runs a command and answers what it prints.
   *
   * @throws IOException with virsh's own words if it fails
   */
  public String run(String... command) throws IOException {
    return begin("", command).await();
  }

  /** Begins a command, with something on its standard input. */
  public Begun begin(String input, String... command) throws IOException {
    return new Begun(new Running(start(Map.of(), command)).tell(input), "virsh " + command[0]);
  }

  /**
   * A virsh that is connected already and waits for its one command, for when a moment counts: a
   * process takes longer to start than libvirt to obey.
   *
   * @param ownDirectory where it may keep what it takes for a user's history
   */
  public Waiting waiting(Path ownDirectory) throws IOException {
    return new Waiting(new Running(start(Map.of("XDG_CACHE_HOME", ownDirectory.toString()))));
  }

  private Process start(Map<String, String> environment, String... command) throws IOException {
    List<String> line = new ArrayList<>(List.of("virsh", "--quiet"));
    connection.ifPresent(uri -> line.addAll(List.of("--connect", uri)));
    line.addAll(List.of(command));
    ProcessBuilder builder = new ProcessBuilder(line);
    // Its words are looked at.
    builder.environment().put("LC_ALL", "C");
    builder.environment().putAll(environment);
    try {
      return builder.start();
    } catch (IOException e) {
      throw new IOException(
          "virsh can't be started (Debian package libvirt-clients): " + e.getMessage(), e);
    }
  }

  /** One virsh. Used by one thread; two others read what it prints. */
  private static final class Running {
    private final Process process;
    private final CompletableFuture<String> output;
    private final CompletableFuture<String> errors;

    Running(Process process) {
      this.process = process;
      output = read(process.getInputStream());
      errors = read(process.getErrorStream());
    }

    private static CompletableFuture<String> read(InputStream from) {
      CompletableFuture<String> whole = new CompletableFuture<>();
      Thread.ofPlatform()
          .name("virsh")
          .daemon()
          .start(() -> {
            try {
              String text = new String(from.readNBytes(MAX_OUTPUT_BYTES), StandardCharsets.UTF_8);
              long _ = from.transferTo(java.io.OutputStream.nullOutputStream());
              whole.complete(text);
            } catch (IOException | UncheckedIOException e) {
              whole.completeExceptionally(e);
            }
          });
      return whole;
    }

    Running tell(String input) throws IOException {
      try (var toVirsh = process.getOutputStream()) {
        toVirsh.write(input.getBytes(StandardCharsets.UTF_8));
      } catch (IOException e) {
        // It has ended already, and says why.
        if (process.isAlive()) {
          throw e;
        }
      }
      return this;
    }

    String await(String what) throws IOException {
      try {
        if (!process.waitFor(PATIENCE.toMillis(), TimeUnit.MILLISECONDS)) {
          process.destroyForcibly();
          throw new IOException(
              what + ": libvirt has not answered in " + PATIENCE.toSeconds() + " s");
        }
      } catch (InterruptedException e) {
        process.destroyForcibly();
        Thread.currentThread().interrupt();
        throw new IOException("interrupted during " + what, e);
      }
      String complaint = errors.join().strip();
      // A virsh that reads its commands ends with 0 whatever becomes of them.
      if (process.exitValue() != 0 || complaint.startsWith("error:")) {
        throw new IOException(
            what
                + ": "
                + (complaint.isEmpty()
                    ? "exit code " + process.exitValue()
                    : complaint.replaceFirst("^error: ", "").replace("\nerror: ", ": ")));
      }
      return output.join();
    }
  }

  /** A command that is under way. Used by one thread. */
  public static final class Begun {
    private final Running running;
    private final String what;

    private Begun(Running running, String what) {
      this.running = running;
      this.what = what;
    }

    /**
     * Waits for its end and answers what it has printed.
     *
     * @throws IOException with virsh's own words if it has failed
     */
    public String await() throws IOException {
      return running.await(what);
    }
  }

  /** See {@link #waiting}. Used once, or closed. */
  public static final class Waiting implements AutoCloseable {
    private final Running running;

    private Waiting(Running running) {
      this.running = running;
    }

    /**
     * Runs the command.
     *
     * @throws IOException with virsh's own words if it fails
     */
    public void run(String command) throws IOException {
      String _ = running.tell(command + "\n").await("virsh " + command);
    }

    @Override
    public void close() {
      running.process.destroy();
    }
  }
}
