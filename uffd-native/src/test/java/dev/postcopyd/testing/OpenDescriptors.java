package dev.postcopyd.testing;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;

/** What this process has open, for tests that look for leaks. */
public final class OpenDescriptors {
  private OpenDescriptors() {}

  /**
   * Every open descriptor with what it leads to, less those that the JVM opens and closes by
   * itself: jars, class files, and the directory being listed.
   */
  public static Map<Integer, String> now() {
    Map<Integer, String> open = new TreeMap<>();
    try (Stream<Path> entries = Files.list(Path.of("/proc/self/fd"))) {
      entries.forEach(entry -> {
        try {
          String target = Files.readSymbolicLink(entry).toString();
          if (!target.contains("/proc/")
              && !target.endsWith(".jar")
              && !target.endsWith(".class")) {
            open.put(Integer.valueOf(entry.getFileName().toString()), target);
          }
        } catch (IOException gone) {
          // Closed since it was listed, as the listing's own descriptor is.
        }
      });
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return open;
  }
}
