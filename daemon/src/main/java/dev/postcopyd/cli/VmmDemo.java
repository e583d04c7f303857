package dev.postcopyd.cli;

import dev.postcopyd.app.Daemon;
import dev.postcopyd.app.DaemonConfig;
import dev.postcopyd.app.GuestSpec;
import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpParseException;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.OwnCommands;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import dev.postcopyd.snapshot.SnapshotFormat;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.IOException;
import java.net.URISyntaxException;
import java.net.UnixDomainSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import tools.jackson.databind.JsonNode;

/**
 * {@code postcopyd demo --guest uffd}: a daemon in this process, and a guest in another that hands
 * its userfaultfd over, touches every page at random, and says how long that took.
 */
final class VmmDemo {
  private static final Duration PATIENCE = Duration.ofMinutes(10);

  private final SnapshotArgument snapshot;
  private final int threads;

  VmmDemo(SnapshotArgument snapshot, int threads) {
    this.snapshot = snapshot;
    this.threads = threads;
  }

  int run() throws IOException, InterruptedException, QmpException {
    Path program = guestProgram();
    Path directory = Files.createTempDirectory("postcopyd-demo");
    Path qmp = directory.resolve("qmp.sock");
    Path vmm = directory.resolve("vmm.sock");
    GuestSpec.HandedOver guest = (GuestSpec.HandedOver) GuestSpec.parse("uffd:" + vmm);
    DaemonConfig config =
        DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
            .withGuest(guest.withoutKeeper())
            .withWorkingSet(WorkingSetChoice.OFF); // random touches would teach it nonsense
    DemoReport report = new DemoReport(System.out);
    try (Daemon _ = Daemon.start(config);
        DemoConversation client =
            DemoConversation.open(UnixDomainSocketAddress.of(qmp), PATIENCE, report)) {
      client.execute("migrate-set-capabilities", DemoCommand.capabilities());
      client.execute("migrate-incoming", QmpJson.object().put("uri", snapshot.uri()));
      return show(start(program, vmm), client, report);
    } finally {
      Files.deleteIfExists(vmm);
      Files.deleteIfExists(qmp);
      Files.deleteIfExists(directory);
    }
  }

  private static int show(Process guest, DemoConversation client, DemoReport report)
      throws IOException, InterruptedException, QmpException {
    String status = "";
    while (!status.equals("completed") && !status.equals("failed")) {
      status = client.awaitStatus();
    }
    client.execute(OwnCommands.QUERY_GUESTS.name(), QmpJson.object());
    String line = guest.inputReader(StandardCharsets.UTF_8).readLine();
    int code = guest.waitFor();
    report.states();
    if (line == null) {
      System.out.println("The guest has ended without a word, with code " + code + ".");
      return ExitCodes.FAILED;
    }
    try {
      tell(QmpJson.parse(line));
    } catch (QmpParseException e) {
      throw new IOException("what the guest says is no JSON: " + line, e);
    }
    return code == 0 && status.equals("completed") ? ExitCodes.OK : ExitCodes.FAILED;
  }

  private static void tell(JsonNode said) {
    System.out.printf(
        Locale.ROOT,
        "%nThe guest touched %d pages at random, %d of them before they had come:%n  p50 %.1f µs   p99 %.1f µs   max %.1f µs%n",
        said.path("touch-count").asLong(),
        said.path("kernel-faults").asLong(),
        said.path("touch-p50-ns").asLong() / 1e3,
        said.path("touch-p99-ns").asLong() / 1e3,
        said.path("touch-max-ns").asLong() / 1e3);
    long verified = said.path("verified-pages").asLong();
    if (verified > 0) {
      System.out.printf(
          Locale.ROOT,
          "It compared %d pages with the file: %d are wrong.%n",
          verified,
          said.path("wrong-pages").asLong());
    }
  }

  private Process start(Path program, Path socket) throws IOException {
    List<String> command = new ArrayList<>(List.of(program.toString()));
    command.addAll(snapshot.use(this::regions));
    command.addAll(
        List.of("--threads", Integer.toString(threads), "--hold-ms", "1000", socket.toString()));
    return new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
  }

  /** Only of raw memory it is known where in the file each byte should be. */
  private List<String> regions(Snapshot open) {
    boolean raw = open.format() == SnapshotFormat.RAW_MEMORY;
    List<String> arguments = new ArrayList<>();
    for (SnapshotBlock block : open.blocks()) {
      arguments.add("--region");
      arguments.add(
          "size=" + block.usedLengthBytes() + (raw ? "" : ",offset=0,ramblock=" + block.name()));
    }
    if (raw) {
      arguments.addAll(List.of("--file", snapshot.path().toString()));
    } else {
      arguments.add("--no-verify");
    }
    return arguments;
  }

  /** The program comes with the package: {@code lib/postcopyd.jar} beside {@code libexec}. */
  private static Path guestProgram() throws IOException {
    Path jar;
    try {
      jar = Path.of(VmmDemo.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    } catch (URISyntaxException e) {
      throw new IOException("not known where the program is", e);
    }
    Path program = jar.resolveSibling("../libexec/uffd-guest").normalize();
    if (!Files.isExecutable(program)) {
      throw new IOException(
          program + " is missing: this program was built where there was no C compiler");
    }
    return program;
  }
}
