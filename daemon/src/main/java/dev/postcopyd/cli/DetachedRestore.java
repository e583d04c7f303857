package dev.postcopyd.cli;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;

/**
 * This command once more, in a session of its own, without {@code --detach}: it serves the guest's
 * memory while this process can end. What it prints goes to a file.
 */
final class DetachedRestore {
  private static final long STEP_MILLIS = 10;

  private final Path log;

  DetachedRestore(Path log) {
    this.log = log;
  }

  /**
   * Starts it and waits until the guest runs; answers why it does not.
   *
   * @param resumes whether the guest is to run; else it is enough that it could
   */
  Optional<String> run(boolean resumes) throws IOException, InterruptedException {
    Files.deleteIfExists(log);
    Files.newByteChannel(
            log,
            Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE),
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")))
        .close();
    Process other =
        new ProcessBuilder(command())
            .redirectInput(new java.io.File("/dev/null"))
            .redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile()))
            .start();
    while (other.isAlive()) {
      String said = Files.readString(log);
      String wanted = resumes ? "\"resumed-ms\"" : "\"postcopy-active\"";
      if (said.contains(wanted) || said.contains("\"completed\"")) {
        return Optional.empty();
      }
      TimeUnit.MILLISECONDS.sleep(STEP_MILLIS);
    }
    if (other.exitValue() == ExitCodes.OK) {
      return Optional.empty();
    }
    return Optional.of(
        Files.readAllLines(log).stream()
            .filter(line -> line.startsWith("postcopyd: "))
            .map(line -> line.substring("postcopyd: ".length()))
            .findFirst()
            .orElse("the process that was to serve the memory has ended; see " + log));
  }

  /** The JVM and its options as they are in this process. */
  private static List<String> command() throws IOException {
    List<String> command = new ArrayList<>(List.of("setsid"));
    String all = Files.readString(Path.of("/proc/self/cmdline"), StandardCharsets.ISO_8859_1);
    for (String argument : all.split("\0", 0)) {
      if (!argument.equals("--detach") && !argument.equals("--json")) {
        command.add(argument);
      }
    }
    command.add("--json");
    return command;
  }
}
