// SPDX-License-Identifier: Apache-2.0

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/**
 * Completes the program's directory once its jars are there: the launcher, the JVM's options, the name of the JDK, and the AOT
 * cache. Run by Maven in the package phase, on the JDK that the program will run on:
 *
 * <pre>java AssembleProgram.java PACKAGING_DIRECTORY PROGRAM_DIRECTORY SNAPSHOT.mr.gz</pre>
 *
 * <p>For the cache the program is started through its own launcher; see {@link Training}.
 */
final class AssembleProgram {
  private AssembleProgram() {}

  static void main(String[] args) throws Exception {
    Path packaging = Path.of(args[0]);
    Path program = Path.of(args[1]).toAbsolutePath();
    Path golden = Path.of(args[2]);
    Path bin = Files.createDirectories(program.resolve("bin")).resolve("postcopyd");
    Files.copy(packaging.resolve("postcopyd"), bin, StandardCopyOption.REPLACE_EXISTING);
    Files.setPosixFilePermissions(bin, PosixFilePermissions.fromString("rwxr-xr-x"));
    Files.copy(
        packaging.resolve("jvm.options"), program.resolve("jvm.options"), StandardCopyOption.REPLACE_EXISTING);
    Files.writeString(program.resolve("java-home"), System.getProperty("java.home") + "\n");
    Path cache = program.resolve("postcopyd.aot");
    Files.deleteIfExists(cache);
    Path work = Files.createTempDirectory("postcopyd-train");
    try {
      Training.run(golden, work, launcher(bin, cache));
    } finally {
      try (Stream<Path> files = Files.walk(work)) {
        for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
          Files.delete(file);
        }
      }
    }
    if (!Files.exists(cache)) {
      throw new IOException("the JVM wrote no AOT cache: " + cache);
    }
  }

  private static ProcessBuilder launcher(Path bin, Path cache) {
    ProcessBuilder builder = new ProcessBuilder(new ArrayList<>(List.of(bin.toString())));
    // The launcher leaves its own -XX:AOTCache out while the file is missing.
    builder.environment().put("POSTCOPYD_JAVA_OPTIONS", "-XX:AOTCacheOutput=" + cache + " -Dpostcopyd.training=true");
    builder.environment().put("POSTCOPYD_JAVA_HOME", System.getProperty("java.home"));
    return builder;
  }
}
