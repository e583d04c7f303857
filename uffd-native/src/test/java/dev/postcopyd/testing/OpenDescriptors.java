package dev.postcopyd.testing;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** What this process has open, for tests that look for leaks. */
public final class OpenDescriptors {
  private static final Pattern OF_THE_JVM =
      Pattern.compile("/proc/|\\.jar$|\\.class$|^/dev/u?random$");

  private OpenDescriptors() {}

  /**
   * Every open descriptor with what it leads to, less those that the JVM opens and closes by
   * itself: jars, class files, random numbers, and the directory being listed.
   */
  public static Map<Integer, String> now() {
    Map<Integer, String> open = new TreeMap<>();
    try (Stream<Path> entries = Files.list(Path.of("/proc/self/fd"))) {
      entries.forEach(entry -> {
        try {
          String target = Files.readSymbolicLink(entry).toString();
          if (!OF_THE_JVM.matcher(target).find()) {
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
