package dev.postcopyd.cli;

import dev.postcopyd.app.Daemon;
import dev.postcopyd.app.DaemonConfig;
import dev.postcopyd.app.GuestSpec;
import dev.postcopyd.app.LogConfigurator;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/**
 * {@code postcopyd restore}: one load into somebody else's QEMU, shown as it goes on; the process
 * ends when the guest needs nobody any more.
 */
@Command(
    name = "restore",
    description = {
      "Resumes a guest from a snapshot and ends when all of its memory has arrived.",
      "Run again after it was interrupted, it goes on with the guest where it stopped."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Example: QEMU waits with -incoming defer and a monitor at /run/vm1.mon",
      "  postcopyd restore /var/lib/vm1.mr --to qemu:/run/vm1.mon",
      "",
      "Exit codes: 0 all memory has arrived; 1 it has not, and a message says why."
    })
final class RestoreCommand implements Callable<Integer> {
  @Mixin private SnapshotArgument snapshot = new SnapshotArgument();

  @Option(
      names = "--to",
      required = true,
      paramLabel = "GUEST",
      description = {
        "qemu:MONITOR[,map.NAME=NAME][,preempt=on|off]: a stock QEMU with -incoming defer and",
        "-qmp unix:MONITOR,server=on,wait=off.",
        "stream:URI[,page-size.BLOCK=2M][,map.NAME=NAME][,preempt=on|off]: a QEMU that waits there",
        "already, as in 'postcopyd run'."
      })
  private String to = "";

  @Option(
      names = "--working-set",
      paramLabel = "FILE|off",
      description = "Where the order of the guest's first pages is kept (default: SNAPSHOT.ws).")
  private @Nullable String workingSet;

  @Option(
      names = "--wait",
      paramLabel = "SECONDS",
      defaultValue = "30",
      description = {
        "How long to wait for QEMU's monitor, or with stream: for the destination to listen",
        "(default: ${DEFAULT-VALUE})."
      })
  private int waitSeconds = 30;

  @Option(
      names = "--json",
      description =
          "Progress as JSON on standard output, an object a line; the last is the outcome.")
  private boolean json;

  @Spec private @Nullable CommandSpec spec;

  @Override
  public Integer call() throws IOException, InterruptedException {
    System.setProperty(LogConfigurator.LEVEL, "error");
    return run(
        config(),
        json ? RestoreProgress.json(System.out) : RestoreProgress.text(System.err),
        waitSeconds);
  }

  /** One load, shown as it goes on; answers the exit code. */
  static int run(DaemonConfig wanted, RestoreProgress progress, int waitSeconds)
      throws InterruptedException {
    Duration patience = Duration.ofSeconds(waitSeconds);
    Optional<GuestSpec.Stream> destination =
        wanted.guest() instanceof GuestSpec.Stream stream
            ? Optional.of(stream.awaitedFor(patience))
            : Optional.empty();
    DaemonConfig config = destination.map(wanted::withGuest).orElse(wanted);
    try (Daemon daemon = Daemon.start(config)) {
      // The signal's own exit code stays: the JVM's after its hooks.
      Runtime.getRuntime()
          .addShutdownHook(
              Thread.ofPlatform().name("signal").unstarted(() -> daemon.closeOnSignal()));
      Optional<String> trouble = new LoadFollower(daemon, progress, patience, destination).follow();
      trouble.ifPresent(reason -> System.err.println("postcopyd: " + reason));
      return trouble.isEmpty() ? ExitCodes.OK : ExitCodes.FAILED;
    } catch (IOException e) {
      System.err.println("postcopyd: " + e.getMessage());
      return ExitCodes.FAILED;
    }
  }

  private DaemonConfig config() {
    GuestSpec guest;
    WorkingSetChoice choice;
    try {
      guest = GuestSpec.parse(to);
      choice = workingSet == null ? WorkingSetChoice.BESIDE : WorkingSetChoice.parse(workingSet);
    } catch (IllegalArgumentException e) {
      throw usage(String.valueOf(e.getMessage()));
    }
    if (guest instanceof GuestSpec.Memory) {
      throw usage("--to memory: that memory would end with this command; see 'postcopyd demo'");
    }
    String offset = snapshot.offsetBytes() == 0 ? "" : ",offset=" + snapshot.offsetBytes();
    return DaemonConfig.of(List.of())
        .withGuest(guest)
        .withIncoming(Optional.of("file:" + snapshot.path().toAbsolutePath() + offset))
        .withExitOnError(true)
        .withWorkingSet(choice);
  }

  private ParameterException usage(String message) {
    CommandSpec command = spec;
    if (command == null) {
      throw new IllegalStateException(message);
    }
    return new ParameterException(command.commandLine(), message);
  }
}
