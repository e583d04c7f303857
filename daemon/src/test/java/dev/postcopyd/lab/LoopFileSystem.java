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
   * XFS, which lets files share their blocks. Where its tools are not installed, or there are no
   * loop devices, the test is passed over; in CI the tools have to be there.
   *
   * @param directory for the file and the mount point
   */
  public static LoopFileSystem xfs(Path directory) throws IOException, InterruptedException {
    requireTools();
    Path image = directory.resolve("xfs.image");
    Path path = Files.createDirectory(directory.resolve("xfs"));
    Assumptions.assumeTrue(
        run("truncate", "-s", "400M", image.toString())
            && run("/usr/sbin/mkfs.xfs", "-q", image.toString())
            && run("mount", "-o", "loop", image.toString(), path.toString()),
        "XFS on a loop device");
    return new LoopFileSystem(path);
  }

  private static void requireTools() {
    boolean there = Files.isExecutable(Path.of("/usr/sbin/mkfs.xfs"));
    if (!there && Objects.equals(System.getenv("CI"), "true")) {
      throw new AssertionError("CI lacks what this test needs: xfsprogs");
    }
    Assumptions.assumeTrue(there, "this test needs xfsprogs");
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
