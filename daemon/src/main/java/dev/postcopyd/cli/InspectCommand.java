package dev.postcopyd.cli;

import dev.postcopyd.snapshot.SnapshotReport;
import dev.postcopyd.workingset.WorkingSetReport;
import java.io.IOException;
import java.io.PrintWriter;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code postcopyd inspect FILE}: what a snapshot, or a working set, holds, and where. */
@Command(
    name = "inspect",
    description = {
      "Shows what a snapshot holds: machine type, blocks, page counts, device sections, offsets;",
      "or what a working set holds (SNAPSHOT.ws)."
    },
    mixinStandardHelpOptions = true)
final class InspectCommand implements Callable<Integer> {
  @Mixin private SnapshotArgument snapshot = new SnapshotArgument();

  @Option(names = "--json", description = "Prints one JSON object, sizes and offsets in bytes.")
  private boolean json;

  @Spec private CommandSpec spec = CommandSpec.create();

  @Override
  public Integer call() throws IOException {
    PrintWriter out = spec.commandLine().getOut();
    out.println(WorkingSetReport.isWorkingSet(snapshot.path()) ? ofWorkingSet() : ofSnapshot());
    out.flush();
    return ExitCodes.OK;
  }

  private String ofWorkingSet() throws IOException {
    WorkingSetReport report = WorkingSetReport.of(snapshot.path());
    return json ? WorkingSetReportFormatter.json(report) : WorkingSetReportFormatter.text(report);
  }

  private String ofSnapshot() throws IOException {
    return snapshot.use(opened -> {
      SnapshotReport report = SnapshotReport.of(opened);
      Optional<WorkingSetReport.Beside> workingSet =
          WorkingSetReport.beside(snapshot.path(), opened);
      return json
          ? SnapshotReportFormatter.json(report, workingSet)
          : SnapshotReportFormatter.text(report, workingSet);
    });
  }
}
