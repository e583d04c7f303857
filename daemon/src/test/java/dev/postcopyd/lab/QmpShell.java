package dev.postcopyd.lab;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeoutException;

/** QEMU's own {@code qmp-shell -v}, with a script in place of the person at its keyboard. */
public final class QmpShell implements AutoCloseable {
  private static final Duration PATIENCE = Duration.ofMinutes(2);

  private final LabProcess process;
  private final OutputStream keyboard;
  private final StringBuilder screen = new StringBuilder();

  private QmpShell(LabProcess process) {
    this.process = process;
    this.keyboard = process.process().getOutputStream();
    Thread.ofPlatform().daemon().name("lab-qmp-shell").start(this::read);
  }

  public static QmpShell start(QemuLab lab, Path directory, Path socket) throws IOException {
    Path unpacked = lab.requireQmpShell();
    Path own = Files.createTempDirectory(directory, "shell");
    Path packages = unpacked.resolve("usr/lib/python3/dist-packages");
    List<String> command =
        List.of(
            "python3",
            "-u",
            unpacked.resolve("usr/bin/qmp-shell").toString(),
            "-v",
            socket.toString());
    return new QmpShell(
        LabProcess.start(
            command,
            own,
            own.resolve("stderr"),
            Map.of(
                "PYTHONPATH",
                packages.toString(),
                "HOME",
                own.toString(),
                "PYTHONDONTWRITEBYTECODE",
                "1")));
  }

  /** Types a line. */
  public void type(String line) throws IOException {
    keyboard.write((line + "\n").getBytes(StandardCharsets.UTF_8));
    keyboard.flush();
  }

  /**
   * Types a line again and again until the screen shows a text somewhere behind another: qmp-shell
   * shows events after a command only.
   */
  public void typeUntil(String line, String behind, String text)
      throws IOException, InterruptedException, TimeoutException {
    long deadlineNanos = System.nanoTime() + PATIENCE.toNanos();
    while (!shows(behind, text)) {
      if (!process.isAlive() || System.nanoTime() > deadlineNanos) {
        throw new TimeoutException(
            text + " is not on the screen behind " + behind + ":\n" + screen() + process.story());
      }
      type(line);
      Thread.sleep(100);
    }
  }

  private boolean shows(String behind, String text) {
    String shown = screen();
    int from = shown.indexOf(behind);
    return from >= 0 && shown.indexOf(text, from) >= 0;
  }

  /** Ends the input, as Ctrl-D does, waits for the end and returns all that was shown. */
  public String finish() throws IOException, InterruptedException, TimeoutException {
    keyboard.close();
    process.awaitExit();
    return screen();
  }

  private String screen() {
    synchronized (screen) {
      return screen.toString();
    }
  }

  private void read() {
    try (BufferedReader reader =
        new BufferedReader(
            new InputStreamReader(process.process().getInputStream(), StandardCharsets.UTF_8))) {
      for (String line = reader.readLine(); line != null; line = reader.readLine()) {
        synchronized (screen) {
          screen.append(line).append('\n');
        }
      }
    } catch (IOException end) {
      // The pipe of a process that was killed.
    }
  }

  @Override
  public void close() {
    process.kill();
  }
}
