package dev.postcopyd.cli;

import dev.postcopyd.app.Daemon;
import dev.postcopyd.app.DaemonConfig;
import dev.postcopyd.app.GuestSpec;
import dev.postcopyd.app.LogConfigurator;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.sink.SinkSettings;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/**
 * {@code postcopyd receive}: one migration of somebody's QEMU, written as a snapshot and shown as
 * it goes on; the process ends when the snapshot is on the disk.
 */
@Command(
    name = "receive",
    description = {
      "Waits for a QEMU to migrate to URI and writes its guest as the snapshot OUT.",
      "OUT appears when all of it is on the disk; until then the source keeps its guest."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Example: a snapshot of a running guest, which goes on all the while",
      "  postcopyd receive unix:/run/vm1.mig /var/lib/vm1.mr &",
      "  migrate-set-capabilities"
          + " capabilities=[{\"capability\":\"background-snapshot\",\"state\":true}]",
      "  migrate uri=unix:/run/vm1.mig        (both on QEMU's monitor)",
      "",
      "Exit codes: 0 the snapshot is there; 1 it is not, and a message says why."
    })
final class ReceiveCommand implements Callable<Integer> {
  private static final long STEP_MILLIS = 5;
  private static final long SHOW_NANOS = TimeUnit.MILLISECONDS.toNanos(100);

  @Parameters(
      index = "0",
      paramLabel = "URI",
      description = "Where the source connects to: tcp:HOST:PORT or unix:PATH.")
  private String uri = "";

  @Parameters(index = "1", paramLabel = "OUT", description = "The snapshot to write (mapped-ram).")
  private Path out = Path.of("");

  @Option(
      names = "--spill",
      paramLabel = "DIR",
      description =
          "Where pages wait that OUT's disk is too slow for, best on another disk (default: the"
              + " temporary directory).")
  private @Nullable Path spill;

  @Option(
      names = "--tls-creds",
      paramLabel = "DIR",
      description =
          "Only sources that speak TLS, with QEMU's files in DIR: ca-cert.pem, server-cert.pem and"
              + " server-key.pem.")
  private @Nullable Path tlsCredentials;

  @Option(
      names = "--json",
      description =
          "Progress as JSON on standard output, an object a line; the last is the outcome.")
  private boolean json;

  @Override
  public Integer call() throws IOException, InterruptedException {
    System.setProperty(LogConfigurator.LEVEL, "error");
    SinkSettings settings =
        spill == null ? SinkSettings.DEFAULT : SinkSettings.DEFAULT.withSpillDirectory(spill);
    DaemonConfig config =
        DaemonConfig.of(List.of())
            .withGuest(new GuestSpec.File(out, settings, true, Optional.ofNullable(tlsCredentials)))
            .withIncoming(Optional.of(uri))
            .withExitOnError(true);
    RestoreProgress progress =
        json ? RestoreProgress.json(System.out) : RestoreProgress.text(System.err);
    try (Daemon daemon = Daemon.start(config)) {
      // The signal's own exit code stays: the JVM's after its hooks.
      Runtime.getRuntime()
          .addShutdownHook(
              Thread.ofPlatform().name("signal").unstarted(() -> daemon.closeOnSignal()));
      Optional<String> trouble = follow(daemon, progress);
      trouble.ifPresent(reason -> System.err.println("postcopyd: " + reason));
      return trouble.isEmpty() ? ExitCodes.OK : ExitCodes.FAILED;
    } catch (IOException e) {
      System.err.println("postcopyd: " + e.getMessage());
      return ExitCodes.FAILED;
    }
  }

  /** Shows the migration until its end; says what went wrong, if anything did. */
  private Optional<String> follow(Daemon daemon, RestoreProgress progress)
      throws InterruptedException {
    long shownNanos = System.nanoTime();
    while (true) {
      MigrationStatus status = daemon.status();
      long nowNanos = System.nanoTime();
      boolean changed = progress.entered(status, nowNanos);
      if (changed || nowNanos - shownNanos >= SHOW_NANOS) {
        progress.show(daemon, nowNanos);
        shownNanos = nowNanos;
      }
      if (status == MigrationStatus.COMPLETED) {
        progress.received(daemon, out, nowNanos);
        return Optional.empty();
      }
      if (status == MigrationStatus.FAILED || status == MigrationStatus.CANCELLED) {
        return progress.ended(daemon.errorDesc().orElse("the migration has failed"));
      }
      if (daemon.endReason().isPresent()) {
        return progress.ended(daemon.errorDesc().or(daemon::endReason).get());
      }
      TimeUnit.MILLISECONDS.sleep(STEP_MILLIS);
    }
  }
}
