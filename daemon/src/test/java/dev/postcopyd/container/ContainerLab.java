package dev.postcopyd.container;

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.exception.NotFoundException;
import dev.postcopyd.lab.QemuLab;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.Assumptions;
import org.testcontainers.DockerClientFactory;

/**
 * A container engine with the image in it. A test that needs it and finds no engine fails under
 * {@code CI=true} and is aborted anywhere else; the image is built where it is missing or older
 * than the program.
 *
 * @param lab what {@code scripts/bootstrap} has got
 */
record ContainerLab(QemuLab lab) {
  static final String IMAGE = "postcopyd:test";

  /** An image without a file: containers of it see the machine's programs by bind mounts. */
  static final String EMPTY = "postcopyd-empty:test";

  private static final int BUILD_MINUTES = 6;

  static ContainerLab require() throws IOException, InterruptedException {
    need(
        DockerClientFactory.instance()::isDockerAvailable,
        "a container engine that answers: scripts/test --ring container starts one");
    need(() -> isRoot(), "root: device nodes and groups of other users are made");
    ContainerLab found = new ContainerLab(QemuLab.require());
    found.buildImage();
    return found;
  }

  private static void need(BooleanSupplier present, String what) {
    boolean there = present.getAsBoolean();
    if (!there && Objects.equals(System.getenv("CI"), "true")) {
      throw new AssertionError("CI lacks what this test needs: " + what);
    }
    Assumptions.assumeTrue(there, () -> "this test needs " + what);
  }

  private static boolean isRoot() {
    return Objects.equals(System.getProperty("user.name"), "root");
  }

  static DockerClient client() {
    return DockerClientFactory.lazyClient();
  }

  /** What {@code scripts/image} has written. */
  Path imageDirectory() {
    return lab.root().resolve("target/image");
  }

  private void buildImage() throws IOException, InterruptedException {
    if (!has(EMPTY)) {
      run(2, "sh", "-c", "tar -cf - -T /dev/null | docker import - " + EMPTY);
    }
    Path archive = imageDirectory().resolve("postcopyd.tar");
    Path program = lab.root().resolve("daemon/target/postcopyd/postcopyd.aot");
    if (has(IMAGE)
        && Files.exists(archive)
        && Files.getLastModifiedTime(archive).compareTo(Files.getLastModifiedTime(program)) > 0) {
      return;
    }
    run(BUILD_MINUTES, lab.root().resolve("scripts/image").toString(), "--tag", IMAGE);
  }

  static void run(int minutes, String... command) throws IOException, InterruptedException {
    Path log = Files.createTempFile("postcopyd-image", ".log");
    Process process =
        new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log.toFile()).start();
    if (!process.waitFor(minutes, TimeUnit.MINUTES) || process.exitValue() != 0) {
      process.destroy();
      throw new AssertionError(
          String.join(" ", command) + " has failed:\n" + Files.readString(log));
    }
    Files.delete(log);
  }

  private static boolean has(String image) {
    try {
      return client().inspectImageCmd(image).exec().getId() != null;
    } catch (NotFoundException e) {
      return false;
    }
  }
}
