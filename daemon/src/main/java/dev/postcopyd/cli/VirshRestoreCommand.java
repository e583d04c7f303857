package dev.postcopyd.cli;

import dev.postcopyd.app.Daemon;
import dev.postcopyd.app.DaemonConfig;
import dev.postcopyd.app.GuestSpec;
import dev.postcopyd.app.LogConfigurator;
import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.guest.QemuOptions;
import dev.postcopyd.libvirt.ImageLease;
import dev.postcopyd.libvirt.LibvirtDirectories;
import dev.postcopyd.libvirt.Virsh;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/**
 * {@code postcopyd virsh-restore}: what {@code virsh restore} does, lazily. libvirt starts the
 * domain paused, with a QEMU that waits and has a second monitor; the memory is loaded there, and
 * libvirt is told to resume the domain as soon as it can run.
 *
 * <p>While libvirt starts QEMU the daemon starts, and does what can be done of the load before the
 * machine is complete.
 */
@Command(
    name = "virsh-restore",
    description = {
      "Restores a domain from a save image of libvirt, as 'virsh restore' does, but its guest runs",
      "at once. Ends when all of its memory has arrived. The image has to be one of format sparse",
      "('virsh save --image-format sparse'), also a managed save.",
      "Run again after it was interrupted, it goes on with the guest where it stopped."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Example: virsh save vm1 /var/lib/vm1.save --image-format sparse; then",
      "  postcopyd virsh-restore /var/lib/vm1.save",
      "",
      "Exit codes: 0 all memory has arrived; 1 it has not, and a message says why."
    })
final class VirshRestoreCommand implements Callable<Integer> {
  private static final Duration LOAD_PATIENCE = Duration.ofSeconds(30);

  @Parameters(paramLabel = "IMAGE", description = "A save image of libvirt, of format sparse.")
  private String image = "";

  @Option(
      names = {"-c", "--connect"},
      paramLabel = "URI",
      description = "The libvirt of this host, as virsh takes it (default: virsh's own default).")
  private @Nullable String connection;

  @Option(
      names = "--xml",
      paramLabel = "FILE",
      description = "The domain's XML instead of the image's, as 'virsh restore --xml' takes it.")
  private @Nullable Path xml;

  @Option(
      names = "--paused",
      description = "Leave the domain paused; as saved, it runs if it ran when it was saved.")
  private boolean paused;

  @Option(
      names = "--detach",
      description = "Return as soon as the guest runs; another process serves its memory.")
  private boolean detach;

  @Option(
      names = "--working-set",
      paramLabel = "FILE|off",
      description = "Where the order of the guest's first pages is kept (default: IMAGE.ws).")
  private @Nullable String workingSet;

  @Option(
      names = "--monitor-dir",
      paramLabel = "DIR",
      description = {
        "Where QEMU may listen (default: libvirt's own directory, /var/lib/libvirt/qemu, or",
        "libvirt/qemu/lib below $XDG_CONFIG_HOME for qemu:///session)."
      })
  private @Nullable Path monitorDirectory;

  @Option(
      names = "--bandwidth",
      paramLabel = "MIB",
      description =
          "What comes unasked, in MiB a second at most; what the guest waits for comes at once.")
  private int bandwidth;

  @Option(
      names = "--json",
      description =
          "Progress as JSON on standard output, an object a line; the last is the outcome.")
  private boolean json;

  @Spec private CommandSpec spec = CommandSpec.create();

  @Override
  public Integer call() throws InterruptedException {
    System.setProperty(LogConfigurator.LEVEL, "error");
    WorkingSetChoice choice = workingSet();
    Path directory = monitorDirectory();
    try {
      SavedDomain domain =
          SavedDomain.read(
              Path.of(image).toAbsolutePath(),
              xml,
              directory,
              LibvirtDirectories.ofPostcopyd(System.getenv()));
      Optional<String> trouble =
          detach
              ? new DetachedRestore(domain.log()).run(domain.runs() && !paused)
              : restore(domain, choice);
      trouble.ifPresent(reason -> System.err.println("postcopyd: " + reason));
      return trouble.isEmpty() ? ExitCodes.OK : ExitCodes.FAILED;
    } catch (IOException e) {
      System.err.println("postcopyd: " + e.getMessage());
      return ExitCodes.FAILED;
    }
  }

  private WorkingSetChoice workingSet() {
    if (workingSet == null) {
      return new WorkingSetChoice.At(Path.of(image + ".ws").toAbsolutePath());
    }
    try {
      return WorkingSetChoice.parse(workingSet);
    } catch (IllegalArgumentException e) {
      throw usage(String.valueOf(e.getMessage()));
    }
  }

  private Path monitorDirectory() {
    Path chosen = monitorDirectory;
    if (chosen != null) {
      return chosen.toAbsolutePath();
    }
    try {
      return LibvirtDirectories.ofQemu(Optional.ofNullable(connection), System.getenv());
    } catch (IllegalArgumentException e) {
      throw usage(String.valueOf(e.getMessage()));
    }
  }

  private ParameterException usage(String message) {
    return new ParameterException(spec.commandLine(), message);
  }

  private Optional<String> restore(SavedDomain domain, WorkingSetChoice choice)
      throws IOException, InterruptedException {
    Virsh virsh = new Virsh(Optional.ofNullable(connection));
    RestoreProgress progress =
        json ? RestoreProgress.json(System.out) : RestoreProgress.text(System.err);
    QemuOptions options = QemuOptions.DEFAULT.limitedTo((long) bandwidth << 20);
    DaemonConfig config =
        DaemonConfig.of(List.of(SocketSpec.parse("unix:" + domain.socket())))
            .withGuest(new GuestSpec.Qemu(domain.monitor(), options))
            .withIncoming(Optional.of(domain.uri()))
            .withExitOnError(true)
            .withWorkingSet(choice);
    boolean begunBefore = domain.isWaitedFor();
    if (!begunBefore) {
      domain.requireSparse();
      domain.prepare(virsh);
    }
    Optional<String> trouble;
    try (ImageLease _ = ImageLease.take(domain.image())) {
      trouble =
          begunBefore
              ? goOn(domain, virsh, config, progress)
              : begin(domain, virsh, config, progress);
    }
    if (trouble.isEmpty()) {
      domain.completed();
    }
    return trouble;
  }

  private Optional<String> begin(
      SavedDomain domain, Virsh virsh, DaemonConfig config, RestoreProgress progress)
      throws IOException, InterruptedException {
    CompletableFuture<@Nullable Void> goAhead = new CompletableFuture<>();
    AtomicBoolean active = new AtomicBoolean();
    Virsh.Begun start = domain.start(virsh);
    try (Virsh.Waiting resume = virsh.waiting(domain.ownDirectory());
        Daemon daemon = start(held(config, goAhead))) {
      // The load gets ready as soon as there is QEMU, whose machine may change until this returns.
      String _ = start.await();
      daemon.awaitWarm();
      progress.began(System.nanoTime());
      boolean _ = goAhead.complete(null);
      return follow(
          daemon,
          progress,
          () -> {
            active.set(true);
            if (domain.runs() && !paused) {
              resume.run("resume " + domain.uuid());
              domain.hasResumed();
              progress.resumed(System.nanoTime());
            }
            domain.imageIsUsed(virsh);
          });
    } finally {
      // A guest that has never run is none: as if nothing had been tried.
      if (!active.get()) {
        domain.giveUp(virsh, start);
      }
    }
  }

  private static DaemonConfig held(DaemonConfig config, CompletableFuture<@Nullable Void> goAhead) {
    return config.withGuest(((GuestSpec.Qemu) config.guest()).heldUntil(goAhead));
  }

  /** What an earlier process has begun. */
  private Optional<String> goOn(
      SavedDomain domain, Virsh virsh, DaemonConfig config, RestoreProgress progress)
      throws IOException, InterruptedException {
    boolean resumes = domain.runs() && !paused && domain.awaitsResume(virsh);
    try (Daemon daemon = start(config)) {
      return follow(
          daemon,
          progress,
          () -> {
            if (resumes) {
              String _ = virsh.run("resume", domain.uuid());
              domain.hasResumed();
              progress.resumed(System.nanoTime());
            }
            domain.imageIsUsed(virsh);
          });
    }
  }

  private static Optional<String> follow(
      Daemon daemon, RestoreProgress progress, LoadFollower.WhenActive whenActive)
      throws IOException, InterruptedException {
    return new LoadFollower(daemon, progress, LOAD_PATIENCE, Optional.empty())
        .withWhenActive(whenActive)
        .follow();
  }

  private static Daemon start(DaemonConfig config) throws IOException {
    Daemon daemon = Daemon.start(config);
    // The signal's own exit code stays: the JVM's after its hooks.
    Runtime.getRuntime()
        .addShutdownHook(
            Thread.ofPlatform().name("signal").unstarted(() -> daemon.closeOnSignal()));
    return daemon;
  }
}
