package dev.postcopyd.qmp.codec;

import static java.nio.charset.StandardCharsets.US_ASCII;

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
  private static final byte[] RESET = {(byte) 0xFF, '\n'};
  private static final byte[] COMMAND =
      "{\"execute\":\"query-name\",\"id\":\"recovered\"}".getBytes(US_ASCII);
  private static final String ANSWER = "{\"return\": {}, \"id\": \"recovered\"}";

  static Stream<byte[]> seeds() {
    return Stream.of("framing", "requests", "arguments")
        .flatMap(file -> Transcript.read(file).stream())
        .flatMap(conversation -> conversation.exchanges().stream())
        .map(Transcript.Exchange::input)
        .filter(input -> input.length < 1000);
  }

  @MethodSource("seeds")
  @FuzzTest(maxDuration = "30s")
  void anyBytes(byte[] input) throws Exception {
    List<String> whole;
    try (ReplaySession session = new ReplaySession("negotiated")) {
      session.feed(input);
      whole = session.lines();
      check(session.heldBytes() <= Math.max(512, 2L * input.length), "memory", session.heldBytes());
      for (String line : whole) {
        checkLine(line);
      }
      session.feed(RESET);
      int before = session.lines().size();
      session.feed(COMMAND);
      List<String> all = session.lines();
      check(all.size() == before + 1 && all.getLast().equals(ANSWER), "recovery", all);
      check(session.heldBytes() == 0, "memory afterwards", session.heldBytes());
    }
    check(answersInParts(input, 1).equals(whole), "byte by byte", whole);
    check(answersInParts(input, 7).equals(whole), "in sevens", whole);
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
    check(line.chars().allMatch(c -> c >= 0x20 && c < 0x7F), "a line of ASCII", line);
    JsonNode json = QmpJson.parse(line);
    // The double -0 reads back as the integer 0.
    String again = QmpJson.write(json);
    check(again.equals(line) || line.contains("-0"), "as it was written", line);
    QmpMessageReader.read(json);
  }

  /** Plain, for a fuzzer calls it many thousand times. */
  private static void check(boolean holds, String what, Object actual) {
    if (!holds) {
      throw new AssertionError(what + ": " + actual);
    }
  }
}
