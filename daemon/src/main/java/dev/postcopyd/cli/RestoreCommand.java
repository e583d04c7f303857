package dev.postcopyd.cli;

import dev.postcopyd.app.Daemon;
import dev.postcopyd.app.DaemonConfig;
import dev.postcopyd.app.GuestSpec;
import dev.postcopyd.app.LogConfigurator;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.IOException;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
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
  private static final long STEP_MILLIS = 5;

  /** A first attempt at a recovery comes after a second. */
  private static final long PAUSED_NANOS = TimeUnit.SECONDS.toNanos(5);

  private static final long SHOW_NANOS = TimeUnit.MILLISECONDS.toNanos(100);

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
      description = "How long to wait for QEMU's monitor (default: ${DEFAULT-VALUE}).")
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
  static int run(DaemonConfig config, RestoreProgress progress, int waitSeconds)
      throws InterruptedException {
    try (Daemon daemon = Daemon.start(config)) {
      // The signal's own exit code stays: the JVM's after its hooks.
      Runtime.getRuntime()
          .addShutdownHook(
              Thread.ofPlatform().name("signal").unstarted(() -> daemon.closeOnSignal()));
      Optional<String> trouble = follow(daemon, progress, waitSeconds);
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

  /** Shows the load until its end; says what went wrong, if anything did. */
  private static Optional<String> follow(Daemon daemon, RestoreProgress progress, int waitSeconds)
      throws InterruptedException {
    long startNanos = System.nanoTime();
    long waitUntilNanos = startNanos + TimeUnit.SECONDS.toNanos(waitSeconds);
    long shownNanos = startNanos;
    long pausedNanos = 0;
    boolean seen = false;
    while (true) {
      MigrationStatus status = daemon.status();
      long nowNanos = System.nanoTime();
      seen |= status != MigrationStatus.NONE;
      boolean changed = progress.entered(status, nowNanos);
      if (changed || nowNanos - shownNanos >= SHOW_NANOS) {
        progress.show(daemon, nowNanos);
        shownNanos = nowNanos;
      }
      switch (status) {
        case COMPLETED -> {
          progress.completed(daemon, nowNanos);
          return Optional.empty();
        }
        case FAILED -> {
          return progress.ended(daemon.errorDesc().orElse("the load has failed"));
        }
        case POSTCOPY_PAUSED -> {
          // Where it can be recovered it is tried by itself, and what an earlier run has left
          // begins
          // as this.
          pausedNanos = pausedNanos == 0 ? nowNanos : pausedNanos;
          if (nowNanos - pausedNanos > PAUSED_NANOS) {
            return progress.ended(
                daemon.errorDesc().orElse("the connection to the guest is lost")
                    + ": the guest waits for its memory; run the same command again to go on");
          }
        }
        default -> pausedNanos = 0;
      }
      if (daemon.endReason().isPresent()) {
        return progress.ended(daemon.endReason().get());
      }
      if (!seen && nowNanos > waitUntilNanos) {
        return progress.ended(daemon.whyNoLoad());
      }
      TimeUnit.MILLISECONDS.sleep(STEP_MILLIS);
    }
  }
}
