package dev.postcopyd.benchmarks;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;

/** A table as text. Rows are added as they are measured. */
final class MarkdownTable {
  private final List<String> columns;
  private final List<List<String>> rows = new ArrayList<>();

  MarkdownTable(String... columns) {
    this.columns = List.of(columns);
  }

  void row(String... cells) {
    if (cells.length != columns.size()) {
      throw new IllegalArgumentException(columns.size() + " columns, and cells: " + List.of(cells));
    }
    rows.add(List.of(cells));
  }

  @Override
  public String toString() {
    String rule = columns.stream().map(column -> "---").collect(Collectors.joining("|", "|", "|"));
    return line(columns)
        + rule
        + "\n"
        + rows.stream().map(MarkdownTable::line).collect(Collectors.joining());
  }

  private static String line(List<String> cells) {
    return cells.stream().collect(Collectors.joining(" | ", "| ", " |\n"));
  }
}
