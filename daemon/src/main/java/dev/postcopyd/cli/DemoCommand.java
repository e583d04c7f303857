package dev.postcopyd.cli;

import dev.postcopyd.app.Daemon;
import dev.postcopyd.app.DaemonConfig;
import dev.postcopyd.app.GuestComparison;
import dev.postcopyd.app.GuestSpec;
import dev.postcopyd.app.GuestToucher;
import dev.postcopyd.app.LogConfigurator;
import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * {@code postcopyd demo}: a daemon, a client and a stand-in for a guest in one process, so that
 * somebody can see a lazy load with one command.
 */
@Command(
    name = "demo",
    description = {
      "Loads a snapshot lazily into this process's memory while threads touch random pages of it,",
      "and shows the QMP conversation, the states, pages by path and how long faults took."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false)
final class DemoCommand implements Callable<Integer> {
  private static final Duration PATIENCE = Duration.ofMinutes(10);

  @Mixin private SnapshotArgument snapshot = new SnapshotArgument();

  @Option(
      names = "--guest",
      paramLabel = "GUEST",
      defaultValue = "memory",
      description = {
        "What to load into (default: ${DEFAULT-VALUE}): memory[,page-size=2M], or uffd: another",
        "process that hands its userfaultfd over."
      })
  private String guest = "memory";

  @Option(
      names = "--threads",
      paramLabel = "N",
      defaultValue = "2",
      description = "Threads that touch random pages meanwhile (default: ${DEFAULT-VALUE}).")
  private int threads = 2;

  @Override
  public Integer call() throws IOException, InterruptedException, QmpException {
    System.setProperty(LogConfigurator.LEVEL, "warn");
    if (guest.equals("uffd")) {
      return new VmmDemo(snapshot, threads).run();
    }
    Path directory = Files.createTempDirectory("postcopyd-demo");
    Path socket = directory.resolve("qmp.sock");
    DaemonConfig config =
        DaemonConfig.of(List.of(SocketSpec.parse("unix:" + socket)))
            .withGuest(GuestSpec.parse(guest))
            .withWorkingSet(WorkingSetChoice.OFF); // random touches would teach it nonsense
    DemoReport report = new DemoReport(System.out);
    try (Daemon daemon = Daemon.start(config);
        DemoConversation client =
            DemoConversation.open(UnixDomainSocketAddress.of(socket), PATIENCE, report)) {
      return show(daemon, client, report);
    } finally {
      Files.deleteIfExists(socket);
      Files.deleteIfExists(directory);
    }
  }

  private int show(Daemon daemon, DemoConversation client, DemoReport report)
      throws IOException, InterruptedException, QmpException {
    client.execute("migrate-set-capabilities", capabilities());
    client.execute("migrate-incoming", QmpJson.object().put("uri", snapshot.uri()));
    Optional<GuestToucher> toucher =
        awaitGuest(daemon).map(memory -> new GuestToucher(memory, threads));
    toucher.ifPresent(GuestToucher::start);
    String status = awaitEnd(client);
    toucher.ifPresent(GuestToucher::close);
    client.execute("query-migrate", QmpJson.object());
    report.states();
    if (!status.equals("completed")) {
      return ExitCodes.FAILED;
    }
    SnapshotLoad load = daemon.load().orElseThrow();
    report.pages(load.engine().orElseThrow().progress());
    report.latencies("fault read → page placed", daemon.metrics().faultLatencies());
    toucher.ifPresent(guestThreads ->
        report.latencies("touch by a guest thread, page missing or not", guestThreads.latencies()));
    long differing =
        GuestComparison.differingPages(
            daemon.guest().orElseThrow(), snapshot.path(), snapshot.offsetBytes());
    report.comparison(daemon.guest().orElseThrow().table().totalBytes(), differing);
    return differing == 0 ? ExitCodes.OK : ExitCodes.FAILED;
  }

  static ObjectNode capabilities() {
    ObjectNode arguments = QmpJson.object();
    ArrayNode list = arguments.putArray("capabilities");
    for (String name : List.of("mapped-ram", "postcopy-ram", "postcopy-blocktime", "events")) {
      list.addObject().put("capability", name).put("state", true);
    }
    return arguments;
  }

  /** The guest's memory as soon as it may be touched; empty if the load ends before. */
  private static Optional<LocalGuest> awaitGuest(Daemon daemon) throws InterruptedException {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (System.nanoTime() < deadline) {
      Optional<SnapshotLoad> load = daemon.load();
      if (load.isPresent() && load.get().engine().isPresent()) {
        return load.get().guest();
      }
      if (load.isPresent() && load.get().isReleased()) {
        return Optional.empty();
      }
      TimeUnit.MICROSECONDS.sleep(100);
    }
    return Optional.empty();
  }

  private static String awaitEnd(DemoConversation client) throws IOException {
    while (true) {
      String status = client.awaitStatus();
      if (status.equals("completed") || status.equals("failed")) {
        return status;
      }
    }
  }
}
