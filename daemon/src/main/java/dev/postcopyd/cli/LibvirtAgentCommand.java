package dev.postcopyd.cli;

import dev.postcopyd.app.LibvirtAgent;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * {@code postcopyd libvirt-agent}: serves the memory of domains that 'virsh restore' and 'virsh
 * start' restore, whose emulator is postcopyd-qemu.
 */
@Command(
    name = "libvirt-agent",
    description = {
      "Makes 'virsh restore' lazy for domains whose <emulator> is postcopyd-qemu: serves their",
      "memory until all of it has arrived. One for all domains of a host."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false)
final class LibvirtAgentCommand implements Callable<Integer> {
  @Option(
      names = "--socket",
      hidden = true, // postcopyd-qemu knows of one only
      paramLabel = "PATH",
      description = "Where postcopyd-qemu asks (default: ${DEFAULT-VALUE}).",
      defaultValue = "/run/postcopyd-libvirt/agent.sock")
  private Path socket = Path.of("/run/postcopyd-libvirt/agent.sock");

  @Option(
      names = "--group",
      paramLabel = "GROUP",
      description = "Who may ask beside root: the group that libvirt's QEMUs run as.")
  private @Nullable String group;

  @Option(
      names = "--bandwidth",
      paramLabel = "MIB",
      description =
          "What comes unasked, in MiB a second at most for each domain; what a guest waits for comes at once.")
  private int bandwidth;

  @Override
  public Integer call() {
    try (LibvirtAgent agent =
        LibvirtAgent.start(socket, Optional.ofNullable(group), (long) bandwidth << 20)) {
      Runtime.getRuntime()
          .addShutdownHook(Thread.ofPlatform().name("signal").unstarted(agent::close));
      agent.run();
      return ExitCodes.OK;
    } catch (IOException e) {
      System.err.println("postcopyd: " + e.getMessage());
      return ExitCodes.FAILED;
    }
  }
}
