// SPDX-License-Identifier: Apache-2.0

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.zip.GZIPInputStream;

/**
 * Completes the program's directory once its jars are there: the launcher, the programs in C, the name of the JDK, and the
 * AOT cache. Run by Maven in the package phase, on the JDK that the program will run on:
 *
 * <pre>java AssembleProgram.java LAUNCHER PROGRAM_DIRECTORY SNAPSHOT.mr.gz SOURCES_OF_HOLDER SOURCES_OF_GUEST</pre>
 *
 * <p>The programs in C are for this machine's processor. Without a compiler they are left out, with a warning: the launcher
 * and the demo say what is missing when somebody needs it.
 *
 * <p>For the cache the program is started through its own launcher and used the way it is meant to be: a client negotiates,
 * loads the golden snapshot and asks for the state. Where this user may not create a userfaultfd, the load is a plain one, and
 * what a lazy one needs is missing from the cache, which costs a later start some milliseconds and is no error.
 */
final class AssembleProgram {
  private static final Duration PATIENCE = Duration.ofSeconds(60);

  private AssembleProgram() {}

  static void main(String[] args) throws Exception {
    Path launcher = Path.of(args[0]);
    Path program = Path.of(args[1]).toAbsolutePath();
    Path golden = Path.of(args[2]);
    Path bin = Files.createDirectories(program.resolve("bin")).resolve("postcopyd");
    Files.copy(launcher, bin, StandardCopyOption.REPLACE_EXISTING);
    Files.setPosixFilePermissions(bin, PosixFilePermissions.fromString("rwxr-xr-x"));
    compile(Path.of(args[3]), bin.resolveSibling("postcopyd-hold"));
    compile(Path.of(args[4]), Files.createDirectories(program.resolve("libexec")).resolve("uffd-guest"), "-pthread", "-lm");
    Files.writeString(program.resolve("java-home"), System.getProperty("java.home") + "\n");
    Path cache = program.resolve("postcopyd.aot");
    Files.deleteIfExists(cache);
    // A short path: the name of a Unix socket has 107 bytes at most.
    Path work = Files.createTempDirectory("postcopyd-train");
    try {
      train(bin, cache, golden, work);
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

  private static void train(Path bin, Path cache, Path golden, Path work) throws Exception {
    Path snapshot = work.resolve("snapshot.mr");
    unpack(golden, snapshot);
    Path socket = work.resolve("qmp");
    Path log = work.resolve("log");
    ProcessBuilder builder =
        new ProcessBuilder(
            bin.toString(), "run", "--qmp", "unix:" + socket + ",server=on,wait=off", "--http", "127.0.0.1:0");
    // The launcher leaves its own -XX:AOTCache out while the file is missing.
    builder.environment().put("POSTCOPYD_JAVA_OPTIONS", "-XX:AOTCacheOutput=" + cache + " -Dpostcopyd.training=true");
    builder.environment().put("POSTCOPYD_JAVA_HOME", System.getProperty("java.home"));
    Process process = builder.redirectErrorStream(true).redirectOutput(log.toFile()).start();
    try {
      converse(process, socket, snapshot);
      // The JVM assembles the cache after the program's own end.
      if (!process.waitFor(PATIENCE.toSeconds(), TimeUnit.SECONDS)) {
        throw new IOException("the program has not ended after quit");
      }
      if (process.exitValue() != 0) {
        throw new IOException("the program ended with code " + process.exitValue());
      }
    } catch (IOException e) {
      throw new IOException(e.getMessage() + "; it said:\n" + Files.readString(log), e);
    } finally {
      process.destroyForcibly().waitFor();
    }
  }

  private static void converse(Process process, Path socket, Path snapshot) throws Exception {
    try (SocketChannel channel = connect(process, socket)) {
      Lines lines = new Lines(channel);
      lines.await("\"QMP\"");
      call(channel, lines, "{\"execute\":\"qmp_capabilities\"}");
      for (String query : List.of("query-version", "query-status", "query-commands", "query-migrate")) {
        call(channel, lines, "{\"execute\":\"" + query + "\"}");
      }
      call(channel, lines, enable("mapped-ram", "events"));
      String lazy = answer(channel, lines, enable("postcopy-ram"));
      if (isError(lazy)) {
        System.err.println("training: a plain load instead of a lazy one, because this user is told: " + lazy);
      }
      call(
          channel,
          lines,
          "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"file:" + snapshot + "\"}}");
      String end = lines.await("\"completed\"", "\"failed\"");
      if (end.contains("\"failed\"")) {
        System.err.println("training: the load failed, the AOT cache does without it");
      }
      call(channel, lines, "{\"execute\":\"query-migrate\"}");
      call(channel, lines, "{\"execute\":\"quit\"}");
    }
  }

  private static SocketChannel connect(Process process, Path socket) throws Exception {
    long deadlineNanos = System.nanoTime() + PATIENCE.toNanos();
    while (true) {
      SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX);
      try {
        channel.connect(UnixDomainSocketAddress.of(socket));
        return channel;
      } catch (IOException notYet) {
        channel.close();
        if (!process.isAlive() || System.nanoTime() > deadlineNanos) {
          throw new IOException("the program does not listen on its QMP socket", notYet);
        }
        Thread.sleep(20);
      }
    }
  }

  private static String enable(String... capabilities) {
    String list =
        Stream.of(capabilities)
            .map(name -> "{\"capability\":\"" + name + "\",\"state\":true}")
            .collect(Collectors.joining(","));
    return "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":[" + list + "]}}";
  }

  private static void call(SocketChannel channel, Lines lines, String command) throws IOException {
    String reply = answer(channel, lines, command);
    if (isError(reply)) {
      throw new IOException(command + " was answered with " + reply);
    }
  }

  private static String answer(SocketChannel channel, Lines lines, String command) throws IOException {
    channel.write(ByteBuffer.wrap((command + "\n").getBytes(StandardCharsets.UTF_8)));
    return lines.await("{\"return\"", "{\"error\"");
  }

  private static boolean isError(String reply) {
    return reply.startsWith("{\"error\"");
  }

  private static void unpack(Path gzipped, Path file) throws IOException {
    try (InputStream in = new GZIPInputStream(Files.newInputStream(gzipped));
        OutputStream out = Files.newOutputStream(file)) {
      in.transferTo(out);
    }
  }

  /** The lines of one QMP connection; whoever waits for one passes over what comes before it. */
  private static final class Lines {
    private final InputStream in;

    Lines(SocketChannel channel) {
      in = Channels.newInputStream(channel);
    }

    String await(String... texts) throws IOException {
      while (true) {
        String line = next();
        for (String text : texts) {
          if (line.contains(text)) {
            return line;
          }
        }
      }
    }

    private String next() throws IOException {
      StringBuilder line = new StringBuilder();
      for (int c = in.read(); c != '\n'; c = in.read()) {
        if (c < 0) {
          throw new IOException("the program closed its QMP connection");
        }
        line.append((char) c);
      }
      return line.toString();
    }
  }
}
