package dev.postcopyd.lab;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;

/** A file system of its own, in a file, mounted for as long as a test runs. */
public final class LoopFileSystem implements AutoCloseable {
  private final Path path;

  private LoopFileSystem(Path path) {
    this.path = path;
  }

  /**
   * One that lets files share their blocks. Where its tools are not installed, or there are no loop
   * devices, the test is passed over; in CI the tools have to be there.
   *
   * @param type {@code xfs} or {@code btrfs}
   * @param directory for the file and the mount point
   */
  public static LoopFileSystem of(String type, Path directory)
      throws IOException, InterruptedException {
    Path tool = Path.of("/usr/sbin/mkfs." + type);
    requireTool(tool);
    Path image = directory.resolve(type + ".image");
    Path path = Files.createDirectory(directory.resolve(type));
    Assumptions.assumeTrue(
        run("truncate", "-s", "400M", image.toString())
            && run(tool.toString(), "-q", image.toString())
            && run("mount", "-t", type, "-o", "loop", image.toString(), path.toString()),
        type + " on a loop device");
    return new LoopFileSystem(path);
  }

  private static void requireTool(Path tool) {
    boolean there = Files.isExecutable(tool);
    if (!there && Objects.equals(System.getenv("CI"), "true")) {
      throw new AssertionError("CI lacks what this test needs: " + tool);
    }
    Assumptions.assumeTrue(there, "this test needs " + tool);
  }

  private static boolean run(String... command) throws IOException, InterruptedException {
    Process process = new ProcessBuilder(command).inheritIO().start();
    return process.waitFor(60, TimeUnit.SECONDS) && process.exitValue() == 0;
  }

  /** Where it is mounted. */
  public Path path() {
    return path;
  }

  @Override
  public void close() throws IOException {
    try {
      if (!run("umount", path.toString())) {
        throw new IOException("can't unmount " + path);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
