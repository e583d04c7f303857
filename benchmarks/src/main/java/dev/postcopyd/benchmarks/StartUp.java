package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * From the start of the process to the first bytes of QMP's greeting, and what the process holds in
 * memory when it then does nothing. Beside it a QEMU, where one is installed: the program whose
 * place at the socket postcopyd takes.
 */
final class StartUp implements BenchmarkTable {
  private static final long DEADLINE_SECONDS = 30;
  private static final long POLL_MILLIS = 2;

  private record Started(Samples millis, Samples residentMib) {
    static Started none() {
      return new Started(new Samples(), new Samples());
    }
  }

  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    Path socket = workbench.directory().resolve("qmp");
    List<String> program =
        List.of(
            workbench.program().launcher(),
            "run",
            "--qmp",
            "unix:" + socket + ",server=on,wait=off");
    List<String> qemu = qemu(socket);
    Started ofProgram = Started.none();
    Started ofQemu = Started.none();
    for (int round = 0; round < workbench.rounds(); round++) {
      if (qemu != null) {
        start(qemu, socket, ofQemu);
      }
      start(program, socket, ofProgram);
    }
    MarkdownTable table = new MarkdownTable("figure", "QEMU", "postcopyd", "wanted");
    table.row("start to greeting, ms", text(ofQemu.millis, 0), text(ofProgram.millis, 0), "≤ 600");
    table.row(
        "resident when idle, MiB",
        text(ofQemu.residentMib, 1),
        text(ofProgram.residentMib, 1),
        "≤ 95.4 (100 MB)");
    return table;
  }

  private static String text(Samples samples, int decimals) {
    return samples.isEmpty() ? "not installed" : samples.toString(decimals);
  }

  private static @Nullable List<String> qemu(Path socket) {
    String path = System.getenv().getOrDefault("PATH", "/usr/bin");
    for (String directory : path.split(":", -1)) {
      Path qemu = Path.of(directory, "qemu-system-x86_64");
      if (Files.isExecutable(qemu)) {
        List<String> command = new ArrayList<>(List.of(qemu.toString()));
        command.addAll(
            List.of("-accel", "tcg", "-nodefaults", "-display", "none", "-S", "-m", "512M"));
        command.addAll(List.of("-incoming", "defer", "-qmp"));
        command.add("unix:" + socket + ",server=on,wait=off");
        return command;
      }
    }
    return null;
  }

  private static void start(List<String> command, Path socket, Started samples) throws IOException {
    Files.deleteIfExists(socket);
    long startNanos = System.nanoTime();
    try (MeasuredProcess process = MeasuredProcess.start(command)) {
      awaitGreeting(process, socket, startNanos);
      samples.millis.add((System.nanoTime() - startNanos) / 1e6);
      Settling.await(process.pid());
      samples.residentMib.add(residentMib(process.pid()));
    } finally {
      Files.deleteIfExists(socket);
    }
  }

  private static void awaitGreeting(MeasuredProcess process, Path socket, long startNanos)
      throws IOException {
    while (true) {
      try (SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX)) {
        channel.connect(UnixDomainSocketAddress.of(socket));
        if (channel.read(ByteBuffer.allocate(1)) == 1) {
          return;
        }
      } catch (IOException notYet) {
        long elapsedNanos = System.nanoTime() - startNanos;
        if (!process.isAlive() || elapsedNanos > TimeUnit.SECONDS.toNanos(DEADLINE_SECONDS)) {
          throw new IOException("nobody listens on " + socket, notYet);
        }
      }
      Settling.sleep(POLL_MILLIS);
    }
  }

  private static double residentMib(long pid) throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/" + pid + "/status"))) {
      if (line.startsWith("VmRSS:")) {
        return Double.parseDouble(line.replaceAll("[^0-9]", "")) / 1024;
      }
    }
    throw new IOException("no VmRSS of process " + pid);
  }
}
