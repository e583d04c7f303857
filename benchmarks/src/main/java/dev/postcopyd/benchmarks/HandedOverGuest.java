package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * {@code uffd-guest}, which hands its userfaultfd over, does as it is told and measures its own
 * touches.
 */
final class HandedOverGuest implements AutoCloseable {
  private final MeasuredProcess process;

  private HandedOverGuest(MeasuredProcess process) {
    this.process = process;
  }

  /** Starts one, which connects and waits. */
  static HandedOverGuest start(Workbench workbench, Path socket, List<String> options)
      throws IOException {
    List<String> command =
        new ArrayList<>(List.of(workbench.program().guest(), "--commands", "--timeout", "110"));
    command.addAll(options);
    command.add(socket.toString());
    return new HandedOverGuest(MeasuredProcess.start(command));
  }

  /** With {@code --wait-for-line}: waits until its memory is there, and not handed over yet. */
  void awaitPrimed() throws IOException {
    process.awaitLine("primed");
  }

  /** Lets it connect. */
  void connect() throws IOException {
    process.writeLine("go");
  }

  /** Waits until it has handed its memory over. */
  void awaitReady() throws IOException {
    process.awaitLine("ready");
  }

  /** Has it touch what its options say; answers what it measured. */
  Measurements run() throws IOException {
    process.writeLine("run");
    return Measurements.parseJson(line());
  }

  /** Has it look at every page, and fails if one is wrong. */
  void verify() throws IOException {
    verify("verify");
  }

  /** The same with the pages that it has touched. */
  void verifyTouched() throws IOException {
    verify("verify-touched");
  }

  private void verify(String command) throws IOException {
    process.writeLine(command);
    String answer = line();
    if (!answer.matches("[1-9][0-9]* right 0 wrong 0 sigbus")) {
      throw new IOException("the guest says: " + answer);
    }
  }

  /** Ends it; what was wrong with a page fails here at the latest. */
  void end() throws IOException {
    process.writeLine("quit");
    Measurements _ = process.finish();
  }

  private String line() throws IOException {
    String line = process.nextLine();
    if (line == null) {
      throw new IOException("the guest has ended");
    }
    return line;
  }

  @Override
  public void close() throws IOException {
    process.close();
  }
}
