package dev.postcopyd.testing;

import dev.postcopyd.posix.Errno;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * Other programs for tests: C sources compiled on the spot, and further JVMs with this module's
 * classes.
 */
public final class Programs {
  /**
   * How a program ended.
   *
   * @param status its exit status; 128 + the signal's number if it was killed; -1 if it did not end
   *     in time and was killed here
   */
  public record Ended(int status, String output) {}

  private static final List<String> JVM_OPTIONS =
      List.of(
          "--enable-native-access=ALL-UNNAMED",
          "-Xmx128m",
          "-XX:+UseSerialGC",
          "-XX:TieredStopAtLevel=1");

  private Programs() {}

  /** Compiles a C program into the directory. */
  public static Path compile(Path directory, String name, String source, String... options) {
    Requirement.program("gcc", "gcc, libc6-dev");
    try {
      Path file = directory.resolve(name + ".c");
      Files.writeString(file, source);
      Path program = directory.resolve(name);
      List<String> command =
          new ArrayList<>(List.of("gcc", "-O1", "-Wall", "-o", program.toString()));
      command.addAll(List.of(options));
      command.add(file.toString());
      Ended ended = run(Duration.ofSeconds(60), Map.of(), command);
      if (ended.status() != 0) {
        throw new AssertionError("gcc failed: " + ended.output());
      }
      return program;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Compiles a C program of the test resources into the directory. */
  public static Path compileResource(Path directory, String name) {
    try (InputStream source = Programs.class.getResourceAsStream(name + ".c")) {
      if (source == null) {
        throw new AssertionError("no " + name + ".c");
      }
      return compile(directory, name, new String(source.readAllBytes(), StandardCharsets.UTF_8));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The command that runs a main class of this module, test classes included, in a JVM. */
  public static List<String> java(Class<?> main, String... jvmOptions) {
    return javaWith(classesOf(Errno.class) + ":" + classesOf(main), main, jvmOptions);
  }

  /** The same with a class path. */
  public static List<String> javaWith(String classPath, Class<?> main, String... jvmOptions) {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(JVM_OPTIONS);
    command.addAll(List.of(jvmOptions));
    command.add("-cp");
    command.add(classPath);
    command.add(main.getName());
    return command;
  }

  /** Copies this module's classes to where any user can read them, and answers the class path. */
  public static String classesForEverybody(Path directory, Class<?> main) {
    List<String> copies = new ArrayList<>();
    for (String classes : List.of(classesOf(Errno.class), classesOf(main))) {
      Path copy = directory.resolve("classes" + copies.size());
      copies.add(copy.toString());
      Ended ended =
          run(Duration.ofSeconds(20), Map.of(), List.of("cp", "-r", classes, copy.toString()));
      if (ended.status() != 0) {
        throw new AssertionError("cp failed: " + ended.output());
      }
    }
    Ended ended =
        run(Duration.ofSeconds(20), Map.of(), List.of("chmod", "-R", "a+rX", directory.toString()));
    if (ended.status() != 0) {
      throw new AssertionError("chmod failed: " + ended.output());
    }
    return String.join(":", copies);
  }

  /** Runs a program to its end; its standard error goes where its output goes. */
  public static Ended run(Duration atMost, Map<String, String> environment, List<String> command) {
    try {
      Path output = Files.createTempFile("output", ".txt");
      try {
        // No pipes: the JVM closes those some time after the process has ended.
        ProcessBuilder.Redirect both = ProcessBuilder.Redirect.appendTo(output.toFile());
        ProcessBuilder builder =
            new ProcessBuilder(command)
                .redirectInput(new File("/dev/null"))
                .redirectOutput(both)
                .redirectError(both);
        builder.environment().putAll(environment);
        Process process = builder.start();
        boolean ended = process.waitFor(atMost.toMillis(), TimeUnit.MILLISECONDS);
        if (!ended) {
          // A deadlocked JVM heeds no other signal than this one, SIGKILL.
          process.destroyForcibly().waitFor();
        }
        return new Ended(
            ended ? process.exitValue() : -1, Files.readString(output, StandardCharsets.UTF_8));
      } finally {
        Files.delete(output);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    } catch (InterruptedException e) {
      throw new AssertionError("interrupted while " + command + " ran", e);
    }
  }

  private static String classesOf(Class<?> type) {
    return Path.of(type.getProtectionDomain().getCodeSource().getLocation().getPath()).toString();
  }
}
