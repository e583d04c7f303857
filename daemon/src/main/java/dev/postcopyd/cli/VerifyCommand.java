package dev.postcopyd.cli;

import dev.postcopyd.snapshot.SnapshotReport;
import dev.postcopyd.snapshot.StoredPagesReader;
import java.io.IOException;
import java.io.PrintWriter;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/**
 * {@code postcopyd verify SNAPSHOT}: every structural check, those of opening and those of the
 * device sections against the vmdescription.
 */
@Command(
    name = "verify",
    description = {
      "Checks a snapshot's whole structure.",
      "Exits with 1 if it is damaged, and says what is wrong at which byte offset."
    },
    mixinStandardHelpOptions = true)
final class VerifyCommand implements Callable<Integer> {
  @Mixin private SnapshotArgument snapshot = new SnapshotArgument();

  @Option(
      names = "--read-pages",
      description = "Reads every stored page too, to find what the disk cannot read.")
  private boolean readPages;

  @Spec private CommandSpec spec = CommandSpec.create();

  @Override
  public Integer call() throws IOException {
    String verdict =
        snapshot.use(opened -> {
          SnapshotReport report = SnapshotReport.of(opened);
          String read = readPages ? ", " + StoredPagesReader.readAll(opened) + " pages read" : "";
          return SnapshotReportFormatter.summary(report) + read;
        });
    PrintWriter out = spec.commandLine().getOut();
    out.println(verdict);
    out.flush();
    return ExitCodes.OK;
  }
}
