// SPDX-License-Identifier: Apache-2.0

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/**
 * Completes the program's directory once its jars are there: the launcher, the JVM's options, the programs in C, the name of
 * the JDK, and the AOT cache. Run by Maven in the package phase, on the JDK that the program will run on:
 *
 * <pre>java AssembleProgram.java PACKAGING_DIRECTORY PROGRAM_DIRECTORY SNAPSHOT.mr.gz SOURCES_OF_HOLDER SOURCES_OF_GUEST</pre>
 *
 * <p>The programs in C are for this machine's processor. Without a compiler they are left out, with a warning: the launcher
 * and the demo say what is missing when somebody needs it.
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
    compile(Path.of(args[3]), bin.resolveSibling("postcopyd-hold"));
    compile(Path.of(args[3]).resolveSibling("postcopyd-qemu"), bin.resolveSibling("postcopyd-qemu"));
    compile(Path.of(args[4]), Files.createDirectories(program.resolve("libexec")).resolve("uffd-guest"), "-pthread", "-lm");
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

  /** Statically where that can be had: such a program runs in any container. */
  private static void compile(Path sources, Path program, String... libraries) throws Exception {
    Files.deleteIfExists(program);
    List<String> files;
    try (Stream<Path> all = Files.list(sources)) {
      files = all.map(Path::toString).filter(name -> name.endsWith(".c")).sorted().toList();
    }
    String said = "";
    for (List<String> linking : List.of(List.of("-static"), List.<String>of())) {
      List<String> command = new ArrayList<>(List.of("gcc", "-O2", "-s", "-Wall", "-Wextra", "-o", program.toString()));
      command.addAll(linking);
      command.addAll(files);
      command.addAll(List.of(libraries));
      try {
        Process gcc = new ProcessBuilder(command).redirectErrorStream(true).start();
        said = new String(gcc.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        if (gcc.waitFor() == 0) {
          return;
        }
      } catch (IOException missing) {
        System.err.println("no gcc, and so no " + program.getFileName() + " (gcc, libc6-dev)");
        return;
      }
    }
    throw new IOException("gcc could not compile " + sources + ":\n" + said);
  }

  private static ProcessBuilder launcher(Path bin, Path cache) {
    ProcessBuilder builder = new ProcessBuilder(new ArrayList<>(List.of(bin.toString())));
    // The launcher leaves its own -XX:AOTCache out while the file is missing.
    builder.environment().put("POSTCOPYD_JAVA_OPTIONS", "-XX:AOTCacheOutput=" + cache + " -Dpostcopyd.training=true");
    builder.environment().put("POSTCOPYD_JAVA_HOME", System.getProperty("java.home"));
    return builder;
  }
}
