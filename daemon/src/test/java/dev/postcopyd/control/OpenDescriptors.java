package dev.postcopyd.control;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/** What this process has open, for tests that look for leaks. */
final class OpenDescriptors {
  private OpenDescriptors() {}

  /** What the descriptors lead to whose target begins so, e.g. {@code socket:} or a directory. */
  static List<String> to(String targetPrefix) throws IOException {
    try (Stream<Path> entries = Files.list(Path.of("/proc/self/fd"))) {
      return entries.map(OpenDescriptors::target).filter(t -> t.startsWith(targetPrefix)).toList();
    }
  }

  private static String target(Path entry) {
    try {
      return Files.readSymbolicLink(entry).toString();
    } catch (IOException gone) {
      return "";
    }
  }
}
