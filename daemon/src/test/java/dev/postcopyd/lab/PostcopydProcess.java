package dev.postcopyd.lab;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeoutException;

/** The packaged program as {@code postcopyd run}, with a connection to it. Closing kills it. */
public final class PostcopydProcess implements AutoCloseable {
  private final LabProcess process;
  private final Path socket;
  private final QmpConnection qmp;

  private PostcopydProcess(LabProcess process, Path socket, QmpConnection qmp) {
    this.process = process;
    this.socket = socket;
    this.qmp = qmp;
  }

  /**
   * Starts the daemon with one QMP socket.
   *
   * @param directory the test's own; its path must be short enough for a socket's
   * @param more further arguments of {@code run}
   */
  public static PostcopydProcess run(QemuLab lab, Path directory, String... more)
      throws IOException, InterruptedException, TimeoutException {
    return runIn(lab, Files.createTempDirectory(directory, "postcopyd"), more);
  }

  /** The same in a directory of the caller's choice, where an earlier daemon may have been. */
  public static PostcopydProcess runIn(QemuLab lab, Path own, String... more)
      throws IOException, InterruptedException, TimeoutException {
    Path socket = own.resolve("qmp");
    List<String> command = new ArrayList<>();
    command.addAll(List.of(lab.postcopyd().toString(), "run", "--qmp", "unix:" + socket));
    command.addAll(List.of(more));
    LabProcess process = LabProcess.start(command, own, own.resolve("stderr"));
    try {
      QmpConnection qmp = QmpConnection.open(socket, process::isAlive, process::story);
      return new PostcopydProcess(process, socket, qmp);
    } catch (IOException | InterruptedException | TimeoutException | RuntimeException e) {
      process.kill();
      throw e;
    }
  }

  public QmpConnection qmp() {
    return qmp;
  }

  /** The QMP socket, for other clients. */
  public Path socket() {
    return socket;
  }

  /** What the daemon has logged so far. */
  public String story() {
    return process.story();
  }

  /** Waits for the daemon to end by itself and returns its exit code. */
  public int awaitExit() throws InterruptedException, TimeoutException {
    return process.awaitExit();
  }

  @Override
  public void close() throws IOException {
    qmp.close();
    process.kill();
  }
}
