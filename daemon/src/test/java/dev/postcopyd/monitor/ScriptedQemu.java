package dev.postcopyd.monitor;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** A monitor that says what a test wants it to say, right or wrong. For the test's thread. */
final class ScriptedQemu implements AutoCloseable {
  static final String GREETING =
      "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}, "
          + "\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n";

  private final Path path;
  private final ServerSocketChannel server;
  private SocketChannel client;
  private BufferedReader lines;

  @SuppressWarnings("NullAway.Init") // the client comes with accept
  ScriptedQemu(Path path) throws IOException {
    this.path = path;
    server = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
    server.bind(UnixDomainSocketAddress.of(path));
  }

  /** Takes the next connection. */
  void accept() throws IOException {
    client = server.accept();
    lines =
        new BufferedReader(
            new InputStreamReader(Channels.newInputStream(client), StandardCharsets.UTF_8));
  }

  /** Takes the next connection and negotiates. */
  void negotiate() throws IOException {
    accept();
    say(GREETING);
    String line = read();
    if (!line.contains("qmp_capabilities") || !line.contains("oob")) {
      throw new IOException("no negotiation: " + line);
    }
    answer(line, "{}");
  }

  void say(String text) throws IOException {
    ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.ISO_8859_1));
    while (bytes.hasRemaining()) {
      client.write(bytes);
    }
  }

  /** The next command, spaced as QEMU spaces JSON; the client's own id is in it. */
  String read() throws IOException {
    String line = lines.readLine();
    if (line == null) {
      throw new IOException("the client has closed");
    }
    return line.replace("\":", "\": ").replace(",\"", ", \"");
  }

  boolean isClosedByClient() throws IOException {
    return lines.readLine() == null;
  }

  void answer(String command, String value) throws IOException {
    String id = command.replaceFirst(".*\"id\": (\\d+).*", "$1");
    say("{\"return\": " + value + ", \"id\": " + id + "}\r\n");
  }

  void hangUp() throws IOException {
    client.close();
  }

  @Override
  public void close() throws IOException {
    if (client != null) {
      client.close();
    }
    server.close();
    Files.deleteIfExists(path);
  }
}
