package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;

/** What the figures were measured on. */
final class Machine {
  private Machine() {}

  static MarkdownTable describe() throws IOException {
    MarkdownTable table = new MarkdownTable("machine", "");
    table.row(
        "CPU",
        Runtime.getRuntime().availableProcessors()
            + " × "
            + field("/proc/cpuinfo", "model name").orElse(System.getProperty("os.arch")));
    table.row("memory", field("/proc/meminfo", "MemTotal").orElse("unknown"));
    table.row("virtual", cpuFlags().contains(" hypervisor") ? "yes" : "no");
    table.row("kernel", System.getProperty("os.name") + " " + System.getProperty("os.version"));
    table.row(
        "Java", System.getProperty("java.vm.name") + " " + System.getProperty("java.vm.version"));
    return table;
  }

  private static String cpuFlags() throws IOException {
    return field("/proc/cpuinfo", "flags").orElse("");
  }

  private static Optional<String> field(String file, String name) throws IOException {
    return Files.readAllLines(Path.of(file)).stream()
        .filter(line -> line.startsWith(name))
        .map(line -> line.substring(line.indexOf(':') + 1).strip())
        .findFirst()
        .map(value -> name.equals("flags") ? " " + value : value);
  }
}
