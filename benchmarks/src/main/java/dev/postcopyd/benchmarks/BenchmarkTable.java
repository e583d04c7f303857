package dev.postcopyd.benchmarks;

import java.io.IOException;

/** One comparison: measures, and answers a Markdown table. */
@FunctionalInterface
interface BenchmarkTable {
  MarkdownTable measure(Workbench workbench) throws IOException;
}
