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
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.zip.GZIPInputStream;

/**
 * Uses the program the way it is meant to be used while its JVM records what it loads, for the AOT cache: a client
 * negotiates, loads the golden snapshot, asks for the state, and takes a background snapshot of what was loaded. Where this user may not create a userfaultfd, the load is a
 * plain one, and what a lazy one needs is missing from the cache, which costs a later start some milliseconds and is no error.
 *
 * <p>As a program, for whoever starts postcopyd in a way of his own (the image in its container):
 *
 * <pre>java Training.java SNAPSHOT.mr.gz DIRECTORY COMMAND...</pre>
 *
 * <p>The arguments of {@code run} are added to the command. It must see the directory under the same name.
 */
final class Training {
  private static final Duration PATIENCE = Duration.ofSeconds(60);

  private Training() {}

  static void main(String[] args) throws Exception {
    run(Path.of(args[0]), Path.of(args[1]), new ProcessBuilder(new ArrayList<>(List.of(args).subList(2, args.length))));
  }

  /**
   * Starts the program, uses it and waits for its end.
   *
   * @param golden a snapshot, gzipped
   * @param work an empty directory with a short path: the name of a Unix socket has 107 bytes at most
   * @param program the command that the arguments of {@code run} are added to
   */
  static void run(Path golden, Path work, ProcessBuilder program) throws Exception {
    Path snapshot = work.resolve("snapshot.mr");
    unpack(golden, snapshot);
    Path socket = work.resolve("qmp");
    Path log = work.resolve("log");
    program
        .command()
        .addAll(List.of("run", "--qmp", "unix:" + socket + ",server=on,wait=off", "--http", "127.0.0.1:0"));
    Process process = program.redirectErrorStream(true).redirectOutput(log.toFile()).start();
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
      if (!isError(lazy) && end.contains("\"completed\"")) {
        saveInBackground(channel, lines, snapshot.resolveSibling("saved.mr"));
      }
      call(channel, lines, "{\"execute\":\"quit\"}");
    }
  }

  private static void saveInBackground(SocketChannel channel, Lines lines, Path file) throws IOException {
    call(
        channel,
        lines,
        "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
            + "{\"capability\":\"postcopy-ram\",\"state\":false},"
            + "{\"capability\":\"background-snapshot\",\"state\":true}]}}");
    String command = "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"file:" + file + "\"}}";
    if (isError(answer(channel, lines, command)) || lines.await("\"completed\"", "\"failed\"").contains("\"failed\"")) {
      System.err.println("training: the background snapshot failed, the AOT cache does without it");
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
