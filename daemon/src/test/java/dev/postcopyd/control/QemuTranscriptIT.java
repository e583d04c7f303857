package dev.postcopyd.control;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.US_ASCII;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * What a real QEMU 10.0 was sent, sent to a real server of ours: the same bytes have to come back.
 * The recordings' format is in testdata/qmp/README.md.
 */
class QemuTranscriptIT {
  private static final Path RECORDINGS = Path.of("../testdata/qmp/qemu-10.0.2");
  private static final Pattern ESCAPE =
      Pattern.compile("\\\\\\\\|\\\\x([0-9a-f]{2})|\\\\\\((.*?)\\*(\\d+)\\)");
  private static final Pattern SENT = Pattern.compile("\\d*=?> (.*)");

  @TempDir static Path directory;

  private static TestServer server;

  /** Bytes as characters of the same value, and the lines that answered them. */
  record Exchange(String input, List<String> output) {}

  /** What was said on one connection that began in a state: greeted, negotiated or oob. */
  record Conversation(String name, String state, List<Exchange> exchanges) {
    @Override
    public String toString() {
      return name.length() > 80 ? name.substring(0, 80) : name;
    }
  }

  @BeforeAll
  static void start() throws IOException {
    server = TestServer.withoutGuest(directory.resolve("qmp.sock"));
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  static Stream<Conversation> conversations() {
    return Stream.of("framing", "requests").flatMap(file -> read(file).stream());
  }

  @Test
  void theRecordingsAreThere() {
    assertThat(conversations()).hasSizeGreaterThan(200);
  }

  private static RawClient connected(String state) throws IOException {
    RawClient client = RawClient.connect(directory.resolve("qmp.sock"));
    assertThat(client.line()).isEqualTo(TestServer.GREETING);
    if (!state.equals("greeted")) {
      String enable = state.equals("oob") ? "\"oob\"" : "";
      client.send(
          "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [" + enable + "]}}");
      assertThat(client.line()).isEqualTo("{\"return\": {}}");
    }
    return client;
  }

  @ParameterizedTest
  @MethodSource("conversations")
  void answersWhatQemuAnswered(Conversation conversation) throws IOException {
    try (RawClient client = connected(conversation.state())) {
      for (Exchange exchange : conversation.exchanges()) {
        client.send(exchange.input().getBytes(ISO_8859_1));
        for (String line : exchange.output()) {
          assertThat(client.line()).isEqualTo(line);
        }
      }
      client.shutdownOutput();
      assertThat(client.rest()).isEmpty();
    }
  }

  @ParameterizedTest
  @MethodSource("conversations")
  void answersTheSameInOneWriteThatEndsTheInput(Conversation conversation) throws IOException {
    StringBuilder input = new StringBuilder();
    List<String> output = new ArrayList<>();
    for (Exchange exchange : conversation.exchanges()) {
      input.append(exchange.input());
      output.addAll(exchange.output());
    }
    try (RawClient client = connected(conversation.state())) {
      client.send(input.toString().getBytes(ISO_8859_1));
      client.shutdownOutput();
      List<String> lines = new ArrayList<>();
      client.rest().lines().forEach(lines::add);
      if (conversation.state().equals("oob")) {
        // What is out of band may overtake.
        assertThat(lines).containsExactlyInAnyOrderElementsOf(output);
      } else {
        assertThat(lines).isEqualTo(output);
      }
    }
  }

  private static List<Conversation> read(String file) {
    List<Conversation> conversations = new ArrayList<>();
    for (String block : text(file).split("\n{2,}", -1)) {
      String state = "";
      List<Exchange> exchanges = new ArrayList<>();
      for (String line : block.lines().toList()) {
        Matcher sent = SENT.matcher(line);
        if (line.startsWith("state: ")) {
          state = line.substring("state: ".length()).split(" ", 2)[0];
        } else if (line.startsWith("< ")) {
          exchanges.getLast().output().add(unescape(line.substring(2)));
        } else if (sent.matches()) {
          exchanges.add(new Exchange(unescape(sent.group(1)), new ArrayList<>()));
        }
      }
      if (!exchanges.isEmpty()) {
        String name = file + ": " + exchanges.getFirst().input();
        conversations.add(new Conversation(name, state, exchanges));
      }
    }
    return conversations;
  }

  private static String text(String file) {
    try {
      return Files.readString(RECORDINGS.resolve(file + ".txt"), US_ASCII);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static String unescape(String text) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    Matcher matcher = ESCAPE.matcher(text);
    int at = 0;
    while (matcher.find()) {
      out.writeBytes(text.substring(at, matcher.start()).getBytes(UTF_8));
      if (matcher.group(1) != null) {
        out.write(Integer.parseInt(matcher.group(1), 16));
      } else if (matcher.group(2) != null) {
        String repeated = unescape(matcher.group(2));
        out.writeBytes(repeated.repeat(Integer.parseInt(matcher.group(3))).getBytes(ISO_8859_1));
      } else {
        out.write('\\');
      }
      at = matcher.end();
    }
    out.writeBytes(text.substring(at).getBytes(UTF_8));
    return out.toString(ISO_8859_1);
  }
}
