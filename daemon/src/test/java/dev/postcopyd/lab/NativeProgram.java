package dev.postcopyd.lab;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;

/**
 * C programs among the tests' and the product's sources, compiled where they are needed: once, and
 * again when a source has changed.
 */
public final class NativeProgram {
  private static final long PATIENCE_SECONDS = 60;

  private NativeProgram() {}

  /** The repository. */
  public static Path root() {
    return Path.of(System.getProperty("postcopyd.root", "..")).toAbsolutePath().normalize();
  }

  /**
   * Compiles all C sources of a directory to one program of the directory's name.
   *
   * @param sources below the repository
   */
  public static synchronized Path compile(Path sources, String... options) {
    Path directory = root().resolve(sources);
    Path program = root().resolve("daemon/target/native").resolve(sources.getFileName());
    try {
      List<Path> files = filesOf(directory);
      if (!isNewer(program, files)) {
        gcc(program, files, options);
      }
      return program;
    } catch (IOException e) {
      throw new AssertionError("compiling " + directory, e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new AssertionError("interrupted while compiling " + directory, e);
    }
  }

  private static List<Path> filesOf(Path directory) throws IOException {
    try (Stream<Path> files = Files.list(directory)) {
      return files.filter(file -> file.toString().matches(".*\\.[ch]")).sorted().toList();
    }
  }

  private static boolean isNewer(Path program, List<Path> files) throws IOException {
    if (!Files.exists(program)) {
      return false;
    }
    for (Path file : files) {
      if (Files.getLastModifiedTime(file).compareTo(Files.getLastModifiedTime(program)) > 0) {
        return false;
      }
    }
    return true;
  }

  private static void gcc(Path program, List<Path> files, String... options)
      throws IOException, InterruptedException {
    boolean there = Files.isExecutable(Path.of("/usr/bin/gcc"));
    if (!there && Objects.equals(System.getenv("CI"), "true")) {
      throw new AssertionError("CI lacks what this test needs: gcc, libc6-dev");
    }
    Assumptions.assumeTrue(there, "this test needs gcc, libc6-dev");
    Files.createDirectories(program.getParent());
    // Renamed when it is whole: another test run may be about to start it.
    Path unfinished = Files.createTempFile(program.getParent(), "compiling", "");
    List<String> command =
        new ArrayList<>(
            List.of(
                "gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", "" + unfinished));
    files.stream().map(Path::toString).filter(name -> name.endsWith(".c")).forEach(command::add);
    command.addAll(List.of(options));
    Process process = new ProcessBuilder(command).inheritIO().start();
    if (!process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS) || process.exitValue() != 0) {
      process.destroyForcibly();
      throw new AssertionError("gcc failed: " + String.join(" ", command));
    }
    Files.move(
        unfinished, program, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
  }
}
