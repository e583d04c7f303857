package dev.postcopyd.qmp.codec;

import static java.nio.charset.StandardCharsets.US_ASCII;
import static org.assertj.core.api.Assertions.assertThat;

import com.code_intelligence.jazzer.junit.FuzzTest;
import dev.postcopyd.qmp.ReplaySession;
import dev.postcopyd.qmp.Transcript;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;

/**
 * Any bytes at all: every answer is a line of QMP, splitting changes nothing, memory stays within
 * bounds and is given back, and a client can always recover.
 *
 * <p>The seed corpus is what the transcripts send. Without fuzzing (the build's default) the seeds
 * alone are run.
 */
class QmpFramerFuzzTest {
  static Stream<byte[]> seeds() {
    return Stream.of("framing", "requests", "arguments")
        .flatMap(file -> Transcript.read(file).stream())
        .map(Transcript.Conversation::input)
        .filter(input -> input.length < 10_000);
  }

  @MethodSource("seeds")
  @FuzzTest
  void anyBytes(byte[] input) throws Exception {
    List<String> whole;
    try (ReplaySession session = new ReplaySession("negotiated")) {
      session.feed(input);
      whole = session.lines();
      assertThat(session.heldBytes()).isLessThanOrEqualTo(Math.max(512, 2L * input.length));
      for (String line : whole) {
        checkLine(line);
      }
      session.feed(new byte[] {(byte) 0xFF, '\n'});
      int before = session.lines().size();
      session.feed("{\"execute\":\"query-name\",\"id\":\"recovered\"}".getBytes(US_ASCII));
      assertThat(session.lines().subList(before, session.lines().size()))
          .containsExactly("{\"return\": {}, \"id\": \"recovered\"}");
      assertThat(session.heldBytes()).isZero();
    }
    assertThat(answersInParts(input, 1)).isEqualTo(whole);
    assertThat(answersInParts(input, 7)).isEqualTo(whole);
  }

  private static List<String> answersInParts(byte[] input, int partLength) {
    try (ReplaySession session = new ReplaySession("negotiated")) {
      for (int i = 0; i < input.length; i += partLength) {
        session.feed(input, i, Math.min(partLength, input.length - i));
      }
      return session.lines();
    }
  }

  private static void checkLine(String line) throws QmpParseException {
    assertThat(line).matches("[\\x20-\\x7E]*");
    JsonNode json = QmpJson.parse(line);
    String again = QmpJson.write(json);
    assertThat(QmpJson.write(QmpJson.parse(again))).isEqualTo(again);
    assertThat(again).hasSizeBetween(line.length() - line.split("-0", -1).length, line.length());
    assertThat(QmpMessageReader.read(json)).isNotNull();
  }
}
