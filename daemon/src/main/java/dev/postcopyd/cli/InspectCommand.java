package dev.postcopyd.cli;

import dev.postcopyd.snapshot.SnapshotReport;
import dev.postcopyd.snapshot.VmmState;
import dev.postcopyd.workingset.WorkingSetReport;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
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

  @Option(
      names = "--vmm-state",
      paramLabel = "FILE",
      description = {
        "Writes the state that a VMM, which is no QEMU, gave for its background snapshot to FILE,",
        "byte for byte, in place of a report."
      })
  private @Nullable Path vmmState;

  @Spec private CommandSpec spec = CommandSpec.create();

  @Override
  public Integer call() throws IOException {
    if (vmmState != null) {
      return writeVmmState(vmmState);
    }
    PrintWriter out = spec.commandLine().getOut();
    out.println(WorkingSetReport.isWorkingSet(snapshot.path()) ? ofWorkingSet() : ofSnapshot());
    out.flush();
    return ExitCodes.OK;
  }

  private int writeVmmState(Path file) throws IOException {
    byte[] state =
        snapshot.use(opened ->
            opened
                .machineState()
                .flatMap(VmmState::of)
                .orElseThrow(() -> new IOException(snapshot.path() + " holds no state of a VMM")));
    Files.write(file, state);
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
