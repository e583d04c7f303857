package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.openjdk.jmh.runner.options.VerboseMode;

/** Runs {@link ClaimBitmapBenchmark}. Single-threaded: contention on one word is rare by design. */
final class ClaimBitmapCosts implements BenchmarkTable {
  @Override
  public MarkdownTable measure(Workbench workbench) throws IOException {
    ChainedOptionsBuilder options =
        new OptionsBuilder()
            .include(ClaimBitmapBenchmark.class.getName())
            .verbosity(VerboseMode.SILENT);
    if (workbench.quick()) {
      options
          .warmupIterations(1)
          .measurementIterations(2)
          .measurementTime(TimeValue.milliseconds(100));
    }
    List<RunResult> results;
    try {
      results = new ArrayList<>(new Runner(options.build()).run());
    } catch (RunnerException e) {
      throw new IOException("JMH: " + e.getMessage(), e);
    }
    MarkdownTable table = new MarkdownTable("operation", "ns", "± (99.9 %)");
    for (RunResult result : results) {
      Result<?> primary = result.getPrimaryResult();
      table.row(
          primary.getLabel(),
          "%.2f".formatted(primary.getScore()),
          "%.2f".formatted(primary.getScoreError()));
    }
    return table;
  }
}
