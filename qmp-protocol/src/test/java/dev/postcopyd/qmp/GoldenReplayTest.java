package dev.postcopyd.qmp;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.qmp.Transcript.Conversation;
import dev.postcopyd.qmp.Transcript.Exchange;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every input that a real QEMU 10.0 was given gets the bytes that QEMU answered. */
class GoldenReplayTest {
  /** Above this, only some splits are tried. */
  private static final int SMALL_INPUT_BYTES = 4096;

  static Stream<Conversation> conversations() {
    return Stream.of("framing", "requests", "arguments")
        .flatMap(file -> Transcript.read(file).stream());
  }

  @Test
  void transcriptsAreThere() {
    assertThat(Transcript.read("framing")).hasSizeGreaterThan(150);
    assertThat(Transcript.read("requests")).hasSizeGreaterThan(60);
    assertThat(Transcript.read("arguments").stream().flatMap(c -> c.exchanges().stream()))
        .hasSizeGreaterThan(100);
  }

  @ParameterizedTest
  @MethodSource("conversations")
  void answersWhatQemuAnswered(Conversation conversation) {
    try (ReplaySession session = new ReplaySession(conversation.state())) {
      List<String> expected = new ArrayList<>();
      for (Exchange exchange : conversation.exchanges()) {
        session.feed(exchange.input());
        expected.addAll(exchange.output());
        assertThat(session.lines()).isEqualTo(expected);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("conversations")
  void answersTheSameByteByByte(Conversation conversation) {
    byte[] input = conversation.input();
    try (ReplaySession session = new ReplaySession(conversation.state())) {
      for (int i = 0; i < input.length; i++) {
        session.feed(input, i, 1);
      }
      assertThat(session.lines()).isEqualTo(conversation.output());
    }
  }

  @ParameterizedTest
  @MethodSource("conversations")
  void answersTheSameSplitAnywhere(Conversation conversation) {
    byte[] input = conversation.input();
    int step = 1 + input.length / SMALL_INPUT_BYTES * 101;
    for (int split = 1; split < input.length && input.length < 100_000; split += step) {
      try (ReplaySession session = new ReplaySession(conversation.state())) {
        session.feed(input, 0, split);
        session.feed(input, split, input.length - split);
        assertThat(session.lines()).as("split at %d", split).isEqualTo(conversation.output());
      }
    }
  }

  @ParameterizedTest
  @MethodSource("conversations")
  void truncatedAnywhereItSaysNoMoreAndHoldsNoMore(Conversation conversation) {
    byte[] input = conversation.input();
    int step = 1 + input.length / SMALL_INPUT_BYTES * 101;
    for (int length = 0; length < input.length && input.length < 100_000; length += step) {
      ReplaySession session = new ReplaySession(conversation.state());
      session.feed(input, 0, length);
      List<String> said = session.lines();
      assertThat(said).hasSizeLessThanOrEqualTo(conversation.output().size());
      assertThat(said).isEqualTo(conversation.output().subList(0, said.size()));
      assertThat(session.heldBytes()).isLessThanOrEqualTo(Math.max(256, 2L * length));
      session.close();
      assertThat(session.heldBytes()).isZero();
    }
  }
}
