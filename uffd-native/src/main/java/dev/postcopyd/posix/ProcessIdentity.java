package dev.postcopyd.posix;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;

/**
 * Which process a number means: numbers are given again.
 *
 * @param startTicks when it was started, in clock ticks since the machine was (proc(5), stat, 22)
 */
public record ProcessIdentity(int pid, long startTicks) {
  /** Fields behind the name, which ends with the last parenthesis: state is the third. */
  private static final int START_TIME = 22 - 3;

  /** Looks up a process; empty if there is none, or it is not to be seen from here. */
  public static Optional<ProcessIdentity> of(int pid) {
    if (pid <= 0) {
      return Optional.empty();
    }
    try {
      String stat =
          Files.readString(Path.of("/proc/" + pid + "/stat"), StandardCharsets.ISO_8859_1);
      String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ", -1);
      return Optional.of(new ProcessIdentity(pid, Long.parseLong(fields[START_TIME])));
    } catch (IOException | RuntimeException e) {
      return Optional.empty();
    }
  }

  /** Whether a number, as far as can be told, means another process, or is given again. */
  public boolean isOther(int thanPid) {
    return thanPid > 0
        && (thanPid != pid || of(thanPid).filter(now -> now.startTicks != startTicks).isPresent());
  }
}
