package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** A fresh {@code postcopyd run} that has come to rest, and a conversation with it. */
record RunningDaemon(MeasuredProcess process, TimedQmp qmp) implements AutoCloseable {

  /**
   * Starts the daemon.
   *
   * @param guest what {@code --guest} takes
   * @param more further arguments of {@code run}
   */
  static RunningDaemon start(Workbench workbench, String guest, List<String> more)
      throws IOException {
    return start(workbench, "daemon", guest, more);
  }

  /** The same for one of several, with a name of its own. */
  static RunningDaemon start(Workbench workbench, String name, String guest, List<String> more)
      throws IOException {
    Path socket = workbench.directory().resolve(name);
    Files.deleteIfExists(socket);
    List<String> command =
        new ArrayList<>(
            List.of(
                workbench.program().launcher(),
                "run",
                "--qmp",
                "unix:" + socket,
                "--guest",
                guest));
    command.addAll(more);
    MeasuredProcess process = MeasuredProcess.start(command);
    try {
      RunningDaemon daemon = new RunningDaemon(process, TimedQmp.connect(socket, process));
      Settling.await(process.pid());
      return daemon;
    } catch (IOException e) {
      process.close();
      throw e;
    }
  }

  @Override
  public void close() throws IOException {
    qmp.close();
    process.close();
  }
}
