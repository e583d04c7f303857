package dev.postcopyd.benchmarks;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Where everything is, and the two ways of running something: the C programs, which are compiled
 * here, and the product's classes.
 *
 * @param root the repository
 * @param directory for what the benchmarks make: programs, data files, sockets
 * @param quick small and few: to see that it runs, not for the numbers
 * @param only part of the names of the cells that are measured, null for all
 */
record Workbench(
    Path root,
    Path directory,
    PackagedProgram program,
    int rounds,
    boolean quick,
    @Nullable String only) {
  static final long MIB = 1L << 20;
  static final long GIB = 1L << 30;

  private static final List<String> C_PROGRAMS =
      List.of(
          "client", "handler", "source", "prepare", "uffd-handler", "drain", "saver", "rewrite");

  static Workbench prepare(Path root, int rounds, boolean quick, @Nullable String only)
      throws IOException {
    Path target = root.resolve("benchmarks/target");
    Path directory = Files.createDirectories(target.resolve("bench"));
    PackagedProgram program =
        new PackagedProgram(
            root.resolve("daemon/target/postcopyd"), target.resolve("postcopyd-benchmarks.jar"));
    Workbench workbench = new Workbench(root, directory, program, rounds, quick, only);
    for (String name : C_PROGRAMS) {
      workbench.compile(name);
    }
    return workbench;
  }

  private void compile(String name) throws IOException {
    Path sources = root.resolve("benchmarks/src/main/c");
    Measurements _ =
        MeasuredProcess.run(
            List.of(
                "gcc",
                "-O2",
                "-pthread",
                "-o",
                cProgram(name),
                sources.resolve(name + ".c").toString()));
  }

  /** Where the laboratory has a stock QEMU 11, if it has. */
  Path qemu11() {
    return root.resolve(".lab/qemu-11/qemu-system-x86_64");
  }

  /** Is a cell of this name to be measured? */
  boolean wants(String cell) {
    return only == null || cell.contains(only);
  }

  String cProgram(String name) {
    return directory.resolve(name).toString();
  }

  /** A file with the contents that the client expects, in the page cache. */
  Path warmFile(long lengthBytes) throws IOException {
    Path file = directory.resolve("memory-" + lengthBytes / MIB + "m");
    if (!Files.exists(file) || Files.size(file) != lengthBytes) {
      Measurements _ =
          MeasuredProcess.run(
              List.of(cProgram("client"), "fill", file.toString(), Long.toString(lengthBytes)));
    }
    byte[] chunk = new byte[1 << 20];
    try (InputStream in = Files.newInputStream(file)) {
      while (in.read(chunk) > 0) {
        // for the page cache only
      }
    }
    return file;
  }

  /** Runs one scenario once; answers what the client measured. */
  Measurements run(Peer peer, Scenario scenario, Path file) throws IOException {
    Path socket = directory.resolve("socket");
    Files.deleteIfExists(socket);
    List<String> arguments = scenario.handlerArguments(socket.toString(), file.toString());
    try (MeasuredProcess handler = startHandler(peer, arguments)) {
      handler.awaitLine("ready");
      Settling.await(handler.pid());
      List<String> client = scenario.clientArguments(socket.toString());
      client.addFirst(cProgram("client"));
      Measurements measured = MeasuredProcess.run(client);
      Measurements _ = handler.finish();
      return measured;
    } finally {
      Files.deleteIfExists(socket);
    }
  }

  private MeasuredProcess startHandler(Peer peer, List<String> arguments) throws IOException {
    return switch (peer) {
      case C -> {
        List<String> command = new java.util.ArrayList<>(List.of(cProgram("handler"), "serve"));
        command.addAll(arguments);
        yield MeasuredProcess.start(command);
      }
      case JAVA -> startClass(ProductHandler.class, arguments);
    };
  }

  /** Starts a class of this module as the packaged program is started. */
  MeasuredProcess startClass(Class<?> main, List<String> arguments) throws IOException {
    Map<String, String> environment = program.environmentToRun(main, arguments);
    return MeasuredProcess.start(List.of(program.launcher()), environment);
  }
}
