package dev.postcopyd.lab;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * A stock QEMU without a machine ({@code -M none}), or with the options that a test gives, whose
 * monitor nobody is connected to. Closing kills it if it still runs.
 */
public final class BareQemu implements AutoCloseable {
  private final LabProcess process;
  private final Path monitor;

  private BareQemu(LabProcess process, Path monitor) {
    this.process = process;
    this.monitor = monitor;
  }

  /**
   * Starts it and waits until its monitor listens.
   *
   * @param monitor where the monitor is to be; what is left there of another one is replaced
   */
  public static BareQemu start(QemuLab lab, Path monitor, String... options)
      throws IOException, InterruptedException {
    List<String> command = new ArrayList<>();
    command.add(lab.qemu().toString());
    if (options.length == 0) {
      command.addAll(List.of("-M", "none"));
    }
    command.addAll(List.of("-nodefaults", "-display", "none"));
    command.addAll(List.of("-qmp", "unix:" + monitor + ",server=on,wait=off"));
    command.addAll(List.of(options));
    Files.deleteIfExists(monitor);
    Path directory = Objects.requireNonNull(monitor.toAbsolutePath().getParent());
    LabProcess process =
        LabProcess.start(command, directory, directory.resolve(monitor.getFileName() + ".stderr"));
    BareQemu qemu = new BareQemu(process, monitor);
    // The socket appears before anybody listens on it, so only a connection proves it; and that
    // would be a client. A file of the kernel's table of sockets tells as well.
    while (!isListening(monitor)) {
      if (!process.isAlive()) {
        throw new IOException("QEMU has ended: " + process.story());
      }
      Thread.sleep(5);
    }
    return qemu;
  }

  /** Whether somebody listens there, without connecting: flag SO_ACCEPTCON of the socket table. */
  private static boolean isListening(Path socket) throws IOException {
    return Files.readAllLines(Path.of("/proc/net/unix")).stream()
        .anyMatch(line -> line.endsWith(" " + socket) && line.contains(" 00010000 "));
  }

  public Path monitor() {
    return monitor;
  }

  public long pid() {
    return process.process().pid();
  }

  public boolean isAlive() {
    return process.isAlive();
  }

  public String story() {
    return process.story();
  }

  /** Ends it as a crash does. */
  public void kill() {
    process.kill();
  }

  /** Waits for it to end by itself and returns its exit code. */
  public int awaitExit() throws Exception {
    return process.awaitExit();
  }

  @Override
  public void close() {
    process.kill();
  }
}
