package dev.postcopyd.benchmarks;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/**
 * The program as it is delivered, and its JVM for classes of this module.
 *
 * <p>Such a class runs through the program's own launcher, so that JDK, flags and AOT cache are the
 * program's: a main class among the launcher's extra options ends what the JVM takes as options,
 * and the launcher's {@code -jar} becomes an argument that the class does not look at. The cache
 * serves every class path that begins with the program's.
 *
 * @param directory {@code daemon/target/postcopyd}
 * @param benchmarksJar this module's jar
 */
record PackagedProgram(Path directory, Path benchmarksJar) {
  private static final String EXTRA_OPTIONS = "POSTCOPYD_JAVA_OPTIONS";

  String launcher() {
    return directory.resolve("bin/postcopyd").toString();
  }

  /** The guest with a userfaultfd of its own, for the demo and for us. */
  String guest() {
    return directory.resolve("libexec/uffd-guest").toString();
  }

  /** What the launcher's environment holds, so that it starts {@code main} instead. */
  Map<String, String> environmentToRun(Class<?> main, List<String> arguments) {
    String classPath = directory.resolve("lib/postcopyd.jar") + ":" + benchmarksJar;
    return Map.of(
        EXTRA_OPTIONS,
        "--enable-native-access=ALL-UNNAMED -cp %s %s %s"
            .formatted(classPath, main.getName(), String.join(" ", arguments)));
  }
}
