package dev.postcopyd.lab;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeoutException;
import java.util.stream.Stream;

/** A stock QEMU with its monitor and the guest's serial line. Closing kills it if it still runs. */
public final class QemuProcess implements AutoCloseable {
  private final LabProcess process;
  private final QmpConnection qmp;
  private final GuestConsole console;

  private QemuProcess(LabProcess process, QmpConnection qmp, GuestConsole console) {
    this.process = process;
    this.qmp = qmp;
    this.console = console;
  }

  /**
   * Starts QEMU; the guest boots, unless the options say {@code -incoming defer}.
   *
   * @param directory the test's own; its path must be short enough for a socket's
   */
  public static QemuProcess start(QemuLab lab, QemuOptions options, Path directory)
      throws IOException, InterruptedException, TimeoutException {
    Path own = Files.createTempDirectory(directory, "qemu");
    if (options.user() >= 0) {
      Files.setAttribute(own, "unix:uid", options.user());
    }
    Path socket = own.resolve("qmp");
    LabProcess process =
        LabProcess.start(options.commandLine(lab, socket), own, own.resolve("stderr"));
    GuestConsole console =
        new GuestConsole(
            process.process().getInputStream(),
            process.process().getOutputStream(),
            process::story);
    try {
      QmpConnection qmp =
          QmpConnection.open(socket, process::isAlive, process::story, List.of("oob"));
      return new QemuProcess(process, qmp, console);
    } catch (IOException | InterruptedException | TimeoutException | RuntimeException e) {
      process.kill();
      throw e;
    }
  }

  /** Starts QEMU, loads the snapshot with QEMU's own mapped-ram code, and lets the guest run. */
  public static QemuProcess load(QemuLab lab, QemuOptions options, Path directory, String uri)
      throws IOException, InterruptedException, TimeoutException {
    QemuProcess qemu = start(lab, options.with("-incoming", "defer"), directory);
    try {
      qemu.qmp().enableCapabilities(List.of("mapped-ram"));
      qemu.qmp().execute("migrate-incoming", Map.of("uri", uri));
      qemu.qmp().awaitMigration("completed");
      // A snapshot of a stopped guest comes up stopped; one of a running guest does not mind.
      qemu.qmp().execute("cont");
      return qemu;
    } catch (IOException | TimeoutException | RuntimeException e) {
      qemu.close();
      throw e;
    }
  }

  public QmpConnection qmp() {
    return qmp;
  }

  /** What each of QEMU's threads waits for in the kernel, for messages. */
  public String threads() {
    StringBuilder text = new StringBuilder();
    try (Stream<Path> tasks = Files.list(Path.of("/proc/" + process.process().pid() + "/task"))) {
      for (Path task : tasks.sorted().toList()) {
        text.append(Files.readString(task.resolve("comm")).strip())
            .append(": ")
            .append(Files.readString(task.resolve("wchan")))
            .append('\n');
      }
    } catch (IOException | UncheckedIOException e) {
      text.append(e);
    }
    return text.toString();
  }

  public GuestConsole console() {
    return console;
  }

  /** Saves a snapshot; further capabilities decide how it is written. */
  public void save(String uri, List<String> capabilities) throws IOException, TimeoutException {
    qmp.enableCapabilities(capabilities);
    qmp.execute("migrate-set-parameters", Map.of("max-bandwidth", 0));
    qmp.execute("migrate", Map.of("uri", uri));
    qmp.awaitMigration("completed");
  }

  /** Ends QEMU through its monitor. */
  public void quit() throws IOException, InterruptedException, TimeoutException {
    qmp.execute("quit");
    int code = process.awaitExit();
    if (code != 0) {
      throw new IOException("QEMU's end: " + process.story());
    }
  }

  @Override
  public void close() throws IOException {
    qmp.close();
    process.kill();
  }
}
