package dev.postcopyd.container;

import com.github.dockerjava.api.model.Bind;
import com.github.dockerjava.api.model.Capability;
import com.github.dockerjava.api.model.Device;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.api.model.Volume;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.startupcheck.IsRunningStartupCheckStrategy;
import org.testcontainers.containers.wait.strategy.AbstractWaitStrategy;

/**
 * What the containers of one pod share: a directory for sockets and one for snapshots, both with
 * one path inside and outside, a group, and a device node for userfaultfd that the group may open.
 * Every container has a user of its own, no capability, no way to new privileges, a read-only root
 * and no network.
 */
final class Pod implements AutoCloseable {
  static final int GROUP = 20000;
  static final int POSTCOPYD = 65532;
  static final int QEMU = 10001;

  private final Path directory;
  private final List<GenericContainer<?>> containers = new ArrayList<>();

  /**
   * @param directory the test's own; its path must be short enough for a socket's
   */
  Pod(Path directory) throws IOException {
    this.directory = directory;
    for (Path shared : List.of(directory, sockets(), snapshots())) {
      Files.createDirectories(shared);
      UnixSocket.chown(shared, -1, GROUP);
      UnixSocket.chmod(shared, 02770);
    }
  }

  /** What Kubernetes' emptyDir with an fsGroup is. */
  Path sockets() {
    return directory.resolve("run");
  }

  Path snapshots() {
    return directory.resolve("snap");
  }

  /** How one container differs from the others; to be changed before the start. */
  static final class Options {
    private final HostConfig host = new HostConfig();
    private String user = POSTCOPYD + ":" + POSTCOPYD;
    private final List<Device> devices = new ArrayList<>();
    private final List<String> entrypoint = new ArrayList<>();
    private final List<Bind> binds = new ArrayList<>();
    private final List<String> security = new ArrayList<>(List.of("no-new-privileges"));

    Options as(int uid) {
      user = uid + ":" + uid;
      return this;
    }

    /** What is started instead of what the image names; the arguments follow. */
    Options entrypoint(String... program) {
      entrypoint.addAll(List.of(program));
      return this;
    }

    Options with(Device device) {
      devices.add(device);
      return this;
    }

    Options seccomp(Path profile) throws IOException {
      security.add("seccomp=" + Files.readString(profile));
      return this;
    }

    Options memoryLimit(long bytes) {
      var _ = host.withMemory(bytes).withMemorySwap(bytes);
      return this;
    }

    Options adding(Capability... capabilities) {
      var _ = host.withCapAdd(capabilities);
      return this;
    }

    /** One more directory of the machine, writable. */
    Options seeing(Path path) {
      binds.add(new Bind(path.toString(), new Volume(path.toString())));
      return this;
    }

    Options network(String mode) {
      var _ = host.withNetworkMode(mode);
      return this;
    }
  }

  /** The device, as a node that the pod's group may open. */
  Device userfaultfd() throws IOException, InterruptedException {
    Path node = directory.resolve("userfaultfd");
    if (!Files.exists(node)) {
      String minor =
          Files.readAllLines(Path.of("/proc/misc")).stream()
              .map(String::strip)
              .filter(line -> line.endsWith(" userfaultfd"))
              .map(line -> line.substring(0, line.indexOf(' ')))
              .findFirst()
              .orElseThrow(() -> new IOException("the kernel has no /dev/userfaultfd"));
      run("mknod", "-m", "660", node.toString(), "c", "10", minor);
      UnixSocket.chown(node, 0, GROUP);
    }
    return new Device("rw", "/dev/userfaultfd", node.toString());
  }

  private static void run(String... command) throws IOException, InterruptedException {
    Process process = new ProcessBuilder(command).inheritIO().start();
    if (!process.waitFor(30, TimeUnit.SECONDS) || process.exitValue() != 0) {
      throw new IOException(String.join(" ", command) + " has failed");
    }
  }

  /** Starts postcopyd with these arguments. */
  GenericContainer<?> postcopyd(Options options, String... arguments) {
    return start(ContainerLab.IMAGE, options, List.of(), arguments);
  }

  /** Starts one of the machine's programs in a container. */
  GenericContainer<?> program(Options options, List<Path> visible, String... command) {
    List<Bind> binds =
        Stream.concat(
                Stream.of("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives").map(Path::of),
                visible.stream())
            .filter(Files::exists)
            .map(path -> Bind.parse(path + ":" + path + ":ro"))
            .toList();
    return start(ContainerLab.EMPTY, options, binds, command);
  }

  private GenericContainer<?> start(
      String image, Options options, List<Bind> more, String... command) {
    List<Bind> binds = new ArrayList<>(more);
    binds.addAll(options.binds);
    for (Path shared : List.of(sockets(), snapshots())) {
      binds.add(new Bind(shared.toString(), new Volume(shared.toString())));
    }
    HostConfig host = options.host;
    if (host.getNetworkMode() == null) {
      var _ = host.withNetworkMode("none");
    }
    GenericContainer<?> container = new GenericContainer<>(image);
    container
        .withImagePullPolicy(_ -> false)
        .withCommand(command)
        .withStartupCheckStrategy(new IsRunningStartupCheckStrategy())
        .withCreateContainerCmdModifier(create -> {
          if (!options.entrypoint.isEmpty()) {
            var _ = create.withEntrypoint(options.entrypoint);
          }
          var _ =
              create
                  .withUser(options.user)
                  .withHostConfig(
                      host.withBinds(binds)
                          .withReadonlyRootfs(true)
                          .withCapDrop(Capability.ALL)
                          .withSecurityOpts(options.security)
                          .withDevices(options.devices)
                          .withGroupAdd(List.of(Integer.toString(GROUP))));
        })
        .waitingFor(new NoWait());
    containers.add(container);
    container.start();
    return container;
  }

  /** Whoever needs something of a container waits for just that. */
  private static final class NoWait extends AbstractWaitStrategy {
    @Override
    protected void waitUntilReady() {}
  }

  @Override
  public void close() {
    containers.reversed().forEach(GenericContainer::stop);
  }
}
