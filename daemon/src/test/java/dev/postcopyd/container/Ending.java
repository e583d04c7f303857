package dev.postcopyd.container;

import com.github.dockerjava.api.command.InspectContainerResponse;
import java.time.Duration;
import java.util.Objects;
import org.testcontainers.containers.GenericContainer;

/**
 * How a container has ended.
 *
 * @param exitCode the program's, or 128 and the signal's number
 * @param outOfMemory whether the kernel has killed it because of its memory limit
 * @param took how long it took from the request
 */
record Ending(long exitCode, boolean outOfMemory, Duration took) {
  private static final int DOCKER_GRACE_SECONDS = 10;

  /** What {@code docker stop} does: SIGTERM, and SIGKILL after the grace period. */
  static Ending stop(GenericContainer<?> container) {
    long before = System.nanoTime();
    Void _ =
        container
            .getDockerClient()
            .stopContainerCmd(container.getContainerId())
            .withTimeout(DOCKER_GRACE_SECONDS)
            .exec();
    return of(container, Duration.ofNanos(System.nanoTime() - before));
  }

  /** What a crash is. */
  static Ending kill(GenericContainer<?> container) {
    Void _ = container.getDockerClient().killContainerCmd(container.getContainerId()).exec();
    return of(container, Duration.ZERO);
  }

  /** The state now. */
  static Ending of(GenericContainer<?> container, Duration took) {
    InspectContainerResponse.ContainerState state =
        container
            .getDockerClient()
            .inspectContainerCmd(container.getContainerId())
            .exec()
            .getState();
    return new Ending(
        Objects.requireNonNullElse(state.getExitCodeLong(), -1L),
        Objects.equals(state.getOOMKilled(), true),
        took);
  }
}
