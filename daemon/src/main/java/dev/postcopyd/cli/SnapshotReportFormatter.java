package dev.postcopyd.cli;

import com.fasterxml.jackson.annotation.JsonInclude;
import dev.postcopyd.snapshot.DeviceSection;
import dev.postcopyd.snapshot.SnapshotReport;
import dev.postcopyd.workingset.WorkingSetReport;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalLong;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/** A snapshot's report as text for people and as JSON for scripts. Stateless. */
final class SnapshotReportFormatter {
  static final JsonMapper JSON =
      JsonMapper.builder()
          .propertyNamingStrategy(PropertyNamingStrategies.KEBAB_CASE)
          .changeDefaultPropertyInclusion(
              inclusion -> inclusion.withValueInclusion(JsonInclude.Include.NON_ABSENT))
          .enable(SerializationFeature.INDENT_OUTPUT)
          .build();

  private SnapshotReportFormatter() {}

  /**
   * One JSON object; the keys are the report's component names in kebab case.
   *
   * @param workingSet becomes the key {@code working-set}
   */
  static String json(SnapshotReport report, Optional<WorkingSetReport.Beside> workingSet) {
    ObjectNode json = JSON.valueToTree(report);
    if (workingSet.isPresent()) {
      ObjectNode _ = json.set("working-set", JSON.valueToTree(workingSet.get()));
    }
    return JSON.writeValueAsString(json);
  }

  /** One line. */
  static String summary(SnapshotReport report) {
    return "%s: ok: %s%s, %s in %d blocks, %d of %d pages stored%s"
        .formatted(
            report.file(),
            report.format(),
            report.machine().map(machine -> ", " + machine.type()).orElse(""),
            size(report.ramBytes()),
            report.blocks().size(),
            report.storedPages(),
            report.pages(),
            report
                .machine()
                .map(machine -> ", %d device sections".formatted(machine.deviceSections().size()))
                .orElse(""));
  }

  /** Some lines of key and value, then a table of blocks and one of device sections. */
  static String text(SnapshotReport report, Optional<WorkingSetReport.Beside> workingSet) {
    StringBuilder out = new StringBuilder();
    line(out, "file", report.file());
    line(out, "format", report.format());
    line(out, "size", report.sizeBytes() + " bytes");
    report.machine().ifPresent(machine -> machine(out, machine));
    report
        .libvirt()
        .ifPresent(libvirt ->
            line(out, "libvirt", libvirt.wasRunning() ? "was running" : "was not running"));
    line(
        out,
        "RAM",
        "%s in %d blocks, %d of %d pages stored"
            .formatted(
                size(report.ramBytes()),
                report.blocks().size(),
                report.storedPages(),
                report.pages()));
    workingSet.ifPresent(
        beside -> line(out, "working set", WorkingSetReportFormatter.summary(beside)));
    blocks(out, report);
    report.machine().ifPresent(machine -> deviceSections(out, machine));
    return out.toString().stripTrailing();
  }

  private static void machine(StringBuilder out, SnapshotReport.Machine machine) {
    line(out, "stream at", offset(machine.streamOffsetBytes()));
    line(out, "machine type", machine.type());
    line(out, "run state", machine.runState().orElse("unknown"));
    line(
        out,
        "device state",
        "%d bytes at %s, %d sections"
            .formatted(
                machine.deviceStateLengthBytes(),
                offset(machine.deviceStateOffsetBytes()),
                machine.deviceSections().size()));
    line(
        out,
        "vmdescription",
        machine.vmdescriptionLengthBytes().isPresent()
            ? machine.vmdescriptionLengthBytes().getAsInt() + " bytes"
            : "none");
    machine
        .made()
        .ifPresent(made ->
            line(
                out,
                "made",
                made.base()
                    .map(base -> "incrementally, from " + base)
                    .orElseGet(() -> "in full: " + made.reason().orElse("unknown"))));
  }

  private static void blocks(StringBuilder out, SnapshotReport report) {
    String row = "%-40s %12s %10s %10s %14s %14s%n";
    out.append('\n')
        .append(row.formatted("block", "length", "pages", "stored", "bitmap at", "pages at"));
    for (SnapshotReport.Block block : report.blocks()) {
      OptionalLong bitmap = block.bitmapOffsetBytes();
      out.append(
          row.formatted(
              block.name(),
              size(block.lengthBytes()),
              block.pages(),
              block.storedPages(),
              bitmap.isPresent() ? offset(bitmap.getAsLong()) : "-",
              offset(block.pagesOffsetBytes())));
    }
  }

  private static void deviceSections(StringBuilder out, SnapshotReport.Machine machine) {
    String row = "%-40s %12s %10s %10s %14s %14s%n";
    out.append('\n')
        .append(row.formatted("device section", "instance", "id", "version", "at", "bytes"));
    for (DeviceSection section : machine.deviceSections()) {
      out.append(
          row.formatted(
              section.name(),
              Integer.toUnsignedString(section.instanceId()),
              Integer.toUnsignedString(section.sectionId()),
              section.version(),
              offset(section.offsetBytes()),
              section.lengthBytes()));
    }
  }

  private static void line(StringBuilder out, String key, String value) {
    out.append("%-14s %s%n".formatted(key, value));
  }

  private static String offset(long offsetBytes) {
    return "0x" + Long.toHexString(offsetBytes);
  }

  /** In the largest unit of which there is at least one. */
  static String size(long bytes) {
    String[] units = {"B", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    double value = bytes;
    while (unit < units.length - 1 && value >= 1024) {
      value /= 1024;
      unit++;
    }
    return value == Math.rint(value)
        ? "%d %s".formatted((long) value, units[unit])
        : String.format(Locale.ROOT, "%.1f %s", value, units[unit]);
  }
}
