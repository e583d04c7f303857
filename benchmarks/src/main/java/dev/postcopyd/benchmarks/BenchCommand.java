package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code scripts/bench}: measures, prints Markdown tables, and puts them into a document. */
@Command(
    name = "bench",
    mixinStandardHelpOptions = true,
    description = "Measures postcopyd beside its peers and prints tables.")
public final class BenchCommand implements Callable<Integer> {
  private static final int QUICK_ROUNDS = 3;
  private static final int USUAL_ROUNDS = 11;

  @Parameters(
      arity = "0..*",
      paramLabel = "NAME",
      description =
          "fault, loading, eager, start, open, bitmap, resume, stream, receive, network, uffd,"
              + " uffd-around, uffd-clones, uffd-recorded, background,"
              + " libvirt; all of them by default")
  private @Nullable List<String> names;

  @Option(names = "--rounds", description = "how often both peers run; odd numbers have a median")
  private int rounds;

  @Option(names = "--quick", description = "small and few: to see that it runs")
  private boolean quick;

  @Option(
      names = "--only",
      paramLabel = "TEXT",
      description =
          "of resume, stream and uffd only the cells with TEXT in their names, e.g. '2 GiB warm'")
  private @Nullable String only;

  @Option(
      names = "--write",
      arity = "0..1",
      fallbackValue = "docs/benchmarks.md",
      paramLabel = "FILE",
      description = "also put the tables into FILE (default: ${FALLBACK-VALUE})")
  private @Nullable Path document;

  @Option(names = "--root", hidden = true, required = true)
  private @Nullable Path root;

  private static Map<String, BenchmarkTable> tables() {
    Map<String, BenchmarkTable> tables = new LinkedHashMap<>();
    tables.put("fault", new FaultRoundTrip());
    tables.put("loading", new FaultsWhileLoading());
    tables.put("eager", new EagerThroughput());
    tables.put("start", new StartUp());
    tables.put("open", new SnapshotOpening());
    tables.put("bitmap", new ClaimBitmapCosts());
    tables.put("resume", new InstantResume());
    tables.put("stream", new StreamedLoad());
    tables.put("receive", new Reception());
    tables.put("network", new NetworkPages());
    tables.put("uffd", new HandoverFaults());
    tables.put("uffd-around", new HandoverAround());
    tables.put("uffd-clones", new HandoverClones());
    tables.put("uffd-recorded", new HandoverRecorded());
    tables.put("background", new BackgroundSnapshots());
    tables.put("incremental", new IncrementalSnapshots());
    tables.put("libvirt", new LibvirtRestore());
    return tables;
  }

  public static void main(String[] args) {
    System.exit(new CommandLine(new BenchCommand()).execute(args));
  }

  @Override
  public Integer call() throws IOException {
    if (root == null) {
      throw new IllegalStateException("picocli let a required option be left out");
    }
    Map<String, BenchmarkTable> tables = tables();
    List<String> wanted =
        names == null || names.isEmpty() ? new ArrayList<>(tables.keySet()) : names;
    for (String name : wanted) {
      if (!tables.containsKey(name)) {
        System.err.println("bench: there is no '" + name + "', only " + tables.keySet());
        return CommandLine.ExitCode.USAGE;
      }
    }
    int usual = quick ? QUICK_ROUNDS : USUAL_ROUNDS;
    Workbench workbench = Workbench.prepare(root, rounds > 0 ? rounds : usual, quick, only);
    show("machine", Machine.describe());
    for (String name : wanted) {
      BenchmarkTable table = tables.get(name);
      if (table != null) {
        show(name, table.measure(workbench));
      }
    }
    return CommandLine.ExitCode.OK;
  }

  private void show(String name, MarkdownTable table) throws IOException {
    System.out.println("### " + name + "\n\n" + table);
    if (document != null && root != null) {
      new ResultsDocument(root.resolve(document)).replace(name, table.toString());
    }
  }
}
