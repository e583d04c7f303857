package dev.postcopyd.app;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;

/**
 * A memory control group of a test's own with a limit, of whichever version this machine has. A
 * test that needs one and may not make one is aborted with the reason; under {@code CI=true} it
 * fails, unless control groups are mounted read-only, as in a container.
 *
 * @param directory where the group is
 * @param unified whether it is of version 2
 */
record MemoryCgroup(Path directory, boolean unified) implements AutoCloseable {
  private static final Path TOP = Path.of("/sys/fs/cgroup");

  static MemoryCgroup limitedTo(long bytes) throws IOException {
    boolean unified = Files.exists(TOP.resolve("cgroup.controllers"));
    Path top = unified ? TOP : TOP.resolve("memory");
    if (!Files.isDirectory(top) || isMountedReadOnly(top)) {
      Assumptions.abort("no memory control groups that can be written to below " + TOP);
    }
    Path directory = top.resolve("postcopyd-test-" + ProcessHandle.current().pid());
    try {
      if (unified) {
        Files.writeString(top.resolve("cgroup.subtree_control"), "+memory");
      }
      Files.createDirectory(directory);
      MemoryCgroup group = new MemoryCgroup(directory, unified);
      group.limit(bytes);
      return group;
    } catch (IOException e) {
      String needed = "this test needs to make memory control groups (root): " + e;
      if (Objects.equals(System.getenv("CI"), "true")) {
        throw new AssertionError(needed, e);
      }
      return Assumptions.<MemoryCgroup>abort(needed);
    }
  }

  private static boolean isMountedReadOnly(Path top) throws IOException {
    return Files.readAllLines(Path.of("/proc/mounts")).stream()
        .map(line -> line.split(" ", -1))
        .anyMatch(mount ->
            mount[1].equals(top.toString()) && List.of(mount[3].split(",", -1)).contains("ro"));
  }

  /** The file that sets the limit, as messages name it. */
  Path limitFile() {
    return directory.resolve(unified ? "memory.max" : "memory.limit_in_bytes");
  }

  private void limit(long bytes) throws IOException {
    Files.writeString(limitFile(), Long.toString(bytes));
    Path swap = directory.resolve(unified ? "memory.swap.max" : "memory.memsw.limit_in_bytes");
    if (Files.exists(swap)) {
      Files.writeString(swap, unified ? "0" : Long.toString(bytes));
    }
  }

  /** What makes a program run in the group: comes before its command. */
  String[] prefix() {
    return new String[] {
      "sh", "-c", "echo $$ > " + directory.resolve("cgroup.procs") + " && exec \"$@\"", "sh"
    };
  }

  /** All processes in it have ended. */
  @Override
  public void close() throws IOException {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
    while (!Files.readString(directory.resolve("cgroup.procs")).isEmpty()
        && System.nanoTime() < deadline) {
      Thread.onSpinWait();
    }
    Files.delete(directory);
  }
}
