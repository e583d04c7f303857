package dev.postcopyd.cli;

import dev.postcopyd.workingset.WorkingSetReport;

/** A working set's report as text for people and as JSON for scripts. Stateless. */
final class WorkingSetReportFormatter {
  private WorkingSetReportFormatter() {}

  /** One JSON object; the keys are the report's component names in kebab case. */
  static String json(WorkingSetReport report) {
    return SnapshotReportFormatter.JSON.writeValueAsString(report);
  }

  /** One line, to stand in the report of the snapshot. */
  static String summary(WorkingSetReport.Beside beside) {
    if (beside.pages().isEmpty()) {
      return "%s: not used: %s".formatted(beside.file(), beside.reason().orElse(""));
    }
    String contents =
        "%s: %d pages (%s), %d recordings"
            .formatted(
                beside.file(),
                beside.pages().get(),
                SnapshotReportFormatter.size(beside.pagesBytes().orElse(0L)),
                beside.recordings().orElse(0L));
    return contents + beside.reason().map(reason -> ", not used: " + reason).orElse("");
  }

  /** Some lines of key and value, then a table of blocks and one of parts. */
  static String text(WorkingSetReport report) {
    StringBuilder out = new StringBuilder();
    line(out, "file", report.file());
    line(out, "format", report.format() + ", version " + report.version());
    line(out, "size", report.sizeBytes() + " bytes");
    line(out, "machine type", report.machineType().isEmpty() ? "none" : report.machineType());
    line(out, "snapshot", "fingerprint " + report.snapshotFingerprint());
    line(out, "recordings", String.valueOf(report.recordings()));
    line(
        out,
        "pages",
        "%d (%s), %d of them seen by every recording that could"
            .formatted(
                report.pages(),
                SnapshotReportFormatter.size(report.pagesBytes()),
                report.corePages()));
    String row = "%-40s %12s %10s %12s%n";
    out.append('\n').append(row.formatted("block", "length", "pages", "working set"));
    for (WorkingSetReport.Block block : report.blocks()) {
      out.append(
          row.formatted(
              block.name(),
              SnapshotReportFormatter.size(block.lengthBytes()),
              block.pages(),
              block.workingSetPages()));
    }
    row = "%-40s %12s %10s%n";
    out.append('\n').append(row.formatted("brought in, in this order", "pages", "runs"));
    for (WorkingSetReport.Part part : report.parts()) {
      out.append(
          row.formatted(
              part.latestRecording()
                  .map(number -> "seen last by recording " + number)
                  .orElse("seen by every recording that could"),
              part.pages(),
              part.runs()));
    }
    return out.toString().stripTrailing();
  }

  private static void line(StringBuilder out, String key, String value) {
    out.append("%-14s %s%n".formatted(key, value));
  }
}
