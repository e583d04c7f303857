package dev.postcopyd.cli;

import dev.postcopyd.app.Daemon;
import dev.postcopyd.app.DaemonConfig;
import dev.postcopyd.app.GuestSpec;
import dev.postcopyd.app.LogConfigurator;
import dev.postcopyd.app.ServiceNotices;
import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.outgoing.background.Incremental;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code postcopyd run}: the daemon in the foreground, until a client or a signal ends it. */
@Command(
    name = "run",
    description = "Serves QMP and loads snapshots, until 'quit' or SIGTERM.",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Example: load a snapshot lazily into the daemon's own memory, driven by hand:",
      "  postcopyd run --qmp unix:/run/postcopyd.qmp",
      "  qmp-shell /run/postcopyd.qmp"
    })
final class RunCommand implements Callable<Integer> {
  @Option(
      names = "--qmp",
      required = true,
      paramLabel = "SPEC",
      description = {
        "Where to serve QMP clients; may be given more than once. QEMU's syntax:",
        "unix:PATH[,server=on,wait=off][,mode=0660][,group=GROUP],",
        "tcp:HOST:PORT[,server=on,wait=off],tls-creds=DIR, where clients show a certificate (QEMU's names:",
        "ca-cert.pem, server-cert.pem, server-key.pem), or ,insecure=on on the loopback interface;",
        "or fd=N for a listening socket that is open already."
      })
  private List<String> qmp = new ArrayList<>();

  @Option(
      names = "--guest",
      paramLabel = "GUEST",
      defaultValue = "memory",
      description = {
        "Whose address space is filled (default: ${DEFAULT-VALUE}).",
        "memory[,page-size=2M][,page-size.BLOCK=2M][,tls-creds=DIR]: the daemon's own memory.",
        "qemu:MONITOR[,map.NAME=NAME][,preempt=on|off]: a stock QEMU with -incoming defer and",
        "-qmp unix:MONITOR,server=on,wait=off; postcopyd drives it and takes its monitor's place.",
        "uffd:PATH[,mode=0600][,group=GROUP][,allow-uid=UID][,eager=on|off]...: VMMs that connect",
        "there and hand their userfaultfd over, as Firecracker does. With tls-creds=DIR migration",
        "sources have to speak TLS, also those of memory and file:.",
        "stream:URI[,page-size.BLOCK=2M][,map.NAME=NAME][,preempt=on|off][,eager=on|off]: a QEMU",
        "that waits with -incoming tcp:HOST:PORT, unix:PATH or fd:N, with postcopy-ram; postcopyd",
        "is the source, also of another postcopyd.",
        "file:PATH[,spill=DIR]: a snapshot; migrate-incoming tcp:HOST:PORT, unix:PATH or fd:NAME",
        "waits for a QEMU that migrates to there. What its disk is too slow for waits in DIR."
      })
  private String guest = "memory";

  @Option(
      names = "--incoming",
      paramLabel = "defer|URI",
      defaultValue = "defer",
      description = {
        "Wait for migrate-incoming (defer, the default), or load file:PATH[,offset=N] at once,",
        "with the capabilities mapped-ram and postcopy-ram; or wait at tcp:HOST:PORT or unix:PATH",
        "for a migration source, which fills --guest memory, uffd:PATH or file:PATH."
      })
  private String incoming = "defer";

  @Option(
      names = "--http",
      paramLabel = "[HOST:]PORT",
      description = {
        "Serve a page to look at, /metrics (Prometheus), /healthz and /readyz there; PORT alone is on",
        "the loopback interface."
      })
  private @Nullable String http;

  @Option(
      names = "--exit-on-error",
      description =
          "A load that fails ends the daemon with exit code 1, unless migrate-incoming says"
              + " otherwise.")
  private boolean exitOnError;

  @Option(
      names = "--eager-threads",
      paramLabel = "N",
      description =
          "Threads that bring in what nobody has asked for, 1 to 64 (default: half of the"
              + " processors, at most 4).")
  private int eagerThreads = DaemonConfig.defaultEagerThreads();

  @Option(
      names = "--migration-dir",
      paramLabel = "DIR",
      description = {
        "Where QEMU and postcopyd meet in a directory of their own; both must see it under this"
            + " name",
        "(default: beside QEMU's monitor). Only with --guest qemu:MONITOR."
      })
  private @Nullable Path migrationDir;

  @Option(
      names = "--no-keep-fd",
      description = {
        "Serve guests of uffd:PATH although nobody keeps their descriptors: a crash of postcopyd"
            + " then",
        "hangs them, or gives them zero pages."
      })
  private boolean noKeepFd;

  @Option(
      names = "--working-set",
      paramLabel = "FILE|off",
      description = {
        "Where the order in which guests touch a snapshot's pages is recorded; what it lists is",
        "brought in first (default: beside the snapshot, as SNAPSHOT.ws)."
      })
  private @Nullable String workingSet;

  @Option(
      names = "--snapshot-dir",
      paramLabel = "DIR",
      description = {
        "Snapshots that are named by their path have to be below this directory, whatever the path:",
        "neither .. nor a symbolic link leads out of it. Relative paths begin there."
      })
  private @Nullable Path snapshotDir;

  @Option(
      names = "--snapshot-buffer",
      paramLabel = "SIZE",
      defaultValue = "256M",
      description = {
        "How much of a guest a background snapshot may have copied and not written yet; guests that",
        "write to their memory wait when it is full. With K, M or G; at least 8M (default:"
            + " ${DEFAULT-VALUE})."
      })
  private String snapshotBuffer = "256M";

  @Option(
      names = "--incremental-snapshots",
      paramLabel = "off|reflink|copy",
      defaultValue = "off",
      description = {
        "Whether a background snapshot is made from the one before it, with what the guest has",
        "written since: reflink, where the file system can share blocks between files; copy, also by",
        "copying. The guest's memory stays write-protected in between (default:"
            + " ${DEFAULT-VALUE})."
      })
  private IncrementalChoice incrementalSnapshots = IncrementalChoice.off;

  @Option(names = "--name", paramLabel = "NAME", description = "What query-name answers.")
  private @Nullable String name;

  @Option(names = "--uuid", paramLabel = "UUID", description = "What query-uuid answers.")
  private UUID uuid = new UUID(0, 0);

  @Option(
      names = "--log",
      paramLabel = "text|json",
      defaultValue = "text",
      description = "The log's format, on standard error (default: ${DEFAULT-VALUE}).")
  private LogFormat log = LogFormat.text;

  @Option(
      names = "--log-level",
      paramLabel = "LEVEL",
      defaultValue = "info",
      description = "error, warn, info, debug or trace (default: ${DEFAULT-VALUE}).")
  private String logLevel = "info";

  @Option(
      names = "--pidfile",
      paramLabel = "FILE",
      description = "Write the process id there once the daemon listens; removed at the end.")
  private @Nullable Path pidfile;

  @Spec private @Nullable CommandSpec spec;

  private static final long MOST_BUFFER_BYTES = 64L << 30;

  /** The names are what users type. */
  enum LogFormat {
    text,
    json
  }

  /** The names are what users type. */
  enum IncrementalChoice {
    off(Incremental.OFF),
    reflink(Incremental.REFLINK),
    copy(Incremental.COPY);

    private final Incremental incremental;

    IncrementalChoice(Incremental incremental) {
      this.incremental = incremental;
    }
  }

  @Override
  public Integer call() throws InterruptedException {
    // Before the first logger is made.
    System.setProperty(LogConfigurator.FORMAT, log.name());
    System.setProperty(LogConfigurator.LEVEL, logLevel);
    DaemonConfig config = config();
    // Before anything is made that a signal could leave behind.
    EndOnSignal signal = EndOnSignal.install(this::removePidfile);
    try (Daemon daemon = Daemon.start(config, ServiceNotices.of(System.getenv()))) {
      writePidfile();
      signal.started(daemon);
      return daemon.awaitEnd();
    } catch (IOException e) {
      System.err.println("postcopyd: " + e.getMessage());
      return 1;
    } finally {
      signal.notStarted();
      removePidfile();
    }
  }

  private DaemonConfig config() {
    if (eagerThreads < 1 || eagerThreads > 64) {
      throw usage("--eager-threads: 1 to 64, not " + eagerThreads);
    }
    try {
      List<SocketSpec> sockets = new ArrayList<>();
      for (String text : qmp) {
        sockets.add(SocketSpec.parse(text));
      }
      return DaemonConfig.of(sockets)
          .withGuest(guestSpec())
          .withIncoming(incoming.equals("defer") ? Optional.empty() : Optional.of(incoming))
          .withHttp(Optional.ofNullable(http).map(RunCommand::address))
          .withExitOnError(exitOnError)
          .withEagerThreads(eagerThreads)
          .withWorkingSet(
              workingSet == null ? WorkingSetChoice.BESIDE : WorkingSetChoice.parse(workingSet))
          .withSnapshotDir(Optional.ofNullable(snapshotDir))
          .withSnapshotBuffer(size("--snapshot-buffer", snapshotBuffer, 8L << 20))
          .withIncremental(incrementalSnapshots.incremental)
          .withIdentity(Optional.ofNullable(name), uuid);
    } catch (IllegalArgumentException e) {
      throw usage(String.valueOf(e.getMessage()));
    }
  }

  private GuestSpec guestSpec() {
    GuestSpec parsed = GuestSpec.parse(guest);
    if (noKeepFd) {
      if (!(parsed instanceof GuestSpec.HandedOver handedOver)) {
        throw new IllegalArgumentException("--no-keep-fd is for --guest uffd:PATH");
      }
      parsed = handedOver.withoutKeeper();
    }
    if (migrationDir == null) {
      return parsed;
    }
    if (parsed instanceof GuestSpec.Qemu qemu) {
      return qemu.meetingIn(migrationDir);
    }
    throw new IllegalArgumentException("--migration-dir is for --guest qemu:MONITOR");
  }

  private static long size(String option, String text, long least) {
    int digits = 0;
    while (digits < text.length() && Character.isDigit(text.charAt(digits))) {
      digits++;
    }
    int power = "KMG".indexOf(text.substring(digits)) + 1;
    boolean plain = digits == text.length();
    if (digits > 0 && digits <= 15 && (plain || (text.length() == digits + 1 && power > 0))) {
      long number = Long.parseLong(text.substring(0, digits));
      int shift = plain ? 0 : power * 10;
      if (number <= MOST_BUFFER_BYTES >> shift && number << shift >= least) {
        return number << shift;
      }
    }
    throw new IllegalArgumentException(
        option + " " + text + ": expected a size from 8M to 64G, such as 512M");
  }

  private static InetSocketAddress address(String text) {
    int colon = text.lastIndexOf(':');
    try {
      int port = Integer.parseInt(text.substring(colon + 1));
      String host = colon < 0 ? "127.0.0.1" : text.substring(0, colon);
      if (host.startsWith("[") && host.endsWith("]")) {
        host = host.substring(1, host.length() - 1);
      }
      if (!host.isEmpty() && port >= 0 && port <= 65535) {
        return new InetSocketAddress(host, port);
      }
    } catch (NumberFormatException e) {
      // said below
    }
    throw new IllegalArgumentException(
        "--http " + text + ": expected PORT or HOST:PORT, e.g. 127.0.0.1:9440");
  }

  private ParameterException usage(String message) {
    CommandSpec command = spec;
    if (command == null) {
      throw new IllegalStateException(message);
    }
    return new ParameterException(command.commandLine(), message);
  }

  private void writePidfile() throws IOException {
    if (pidfile != null) {
      Files.writeString(pidfile, ProcessHandle.current().pid() + "\n");
    }
  }

  private void removePidfile() {
    if (pidfile != null) {
      try {
        Files.deleteIfExists(pidfile);
      } catch (IOException e) {
        System.err.println("postcopyd: can't remove " + pidfile + ": " + e.getMessage());
      }
    }
  }
}
