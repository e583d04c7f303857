package dev.postcopyd.cli;

import dev.postcopyd.snapshot.SnapshotReport;
import java.io.IOException;
import java.io.PrintWriter;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code postcopyd inspect SNAPSHOT}: what a snapshot holds, and where. */
@Command(
    name = "inspect",
    description =
        "Shows what a snapshot holds: machine type, blocks, page counts, device sections, offsets.",
    mixinStandardHelpOptions = true)
final class InspectCommand implements Callable<Integer> {
  @Mixin private SnapshotArgument snapshot = new SnapshotArgument();

  @Option(names = "--json", description = "Prints one JSON object, sizes and offsets in bytes.")
  private boolean json;

  @Spec private CommandSpec spec = CommandSpec.create();

  @Override
  public Integer call() throws IOException {
    SnapshotReport report = snapshot.use(SnapshotReport::of);
    PrintWriter out = spec.commandLine().getOut();
    out.println(json ? SnapshotReportFormatter.json(report) : SnapshotReportFormatter.text(report));
    out.flush();
    return ExitCodes.OK;
  }
}
