package dev.postcopyd.qmp.codec;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What a message may cost, and that nothing costs more. */
class QmpFramerLimitsTest {
  private static final String TOO_LARGE = "!JSON token size limit exceeded";

  private final FrameBudget budget = new FrameBudget(1 << 20);

  /** Writes down values, and descriptions with an exclamation mark. */
  private final class Recorder implements QmpFramer.Sink, AutoCloseable {
    private final List<String> frames = new ArrayList<>();
    private final List<FrameBudget.Lease> leases = new ArrayList<>();
    private final FrameBudget.Account account = budget.openAccount();
    private final QmpFramer framer;

    Recorder(QmpLimits limits) {
      framer = new QmpFramer(limits, account, this);
    }

    void feed(String text) {
      framer.feed(ByteBuffer.wrap(text.getBytes(StandardCharsets.ISO_8859_1)));
    }

    @Override
    public void complete(byte[] text, int length, FrameBudget.Lease lease) {
      frames.add(new String(text, 0, length, StandardCharsets.ISO_8859_1));
      leases.add(lease);
    }

    @Override
    public void malformed(String description) {
      frames.add("!" + description);
    }

    @Override
    public void close() {
      framer.close();
      account.close();
    }
  }

  private static final QmpLimits HUNDRED_BYTES = new QmpLimits(100, 1000, 10);

  @Test
  void aMessageMayHaveExactlyTheLimit() {
    try (Recorder recorder = new Recorder(HUNDRED_BYTES)) {
      String largest = "{\"a\":\"" + "b".repeat(92) + "\"}";
      assertThat(largest).hasSize(100);
      recorder.feed(largest + "\n" + largest.replaceFirst("b", "bb") + "{}");
      assertThat(recorder.frames).containsExactly(largest, TOO_LARGE, "{}");
    }
  }

  @Test
  void spaceBetweenTokensIsFree() {
    try (Recorder recorder = new Recorder(HUNDRED_BYTES)) {
      String space = " \t\r\n".repeat(10_000);
      recorder.feed(space + "[" + space + "1" + space + "2" + space + "]" + space);
      assertThat(recorder.frames).containsExactly("[1 2]");
      assertThat(budget.reservedBytes()).isLessThan(1000);
    }
  }

  @Test
  void tooLargeAMessageIsAnsweredOnceAndReadOver() {
    try (Recorder recorder = new Recorder(HUNDRED_BYTES)) {
      recorder.feed("{\"a\": [" + "[1,{\"x\":'}'}], ".repeat(50) + "\"]}}");
      assertThat(recorder.frames).containsExactly(TOO_LARGE);
      assertThat(budget.reservedBytes()).isZero();
      recorder.feed("]]}}\\\"]}\"");
      assertThat(recorder.frames).as("brackets in strings do not count").hasSize(1);
      recorder.feed("]} {\"next\":1}");
      assertThat(recorder.frames).containsExactly(TOO_LARGE, "{\"next\":1}");
    }
  }

  @Test
  void aStringAtTheTopIsReadOverToItsEnd() {
    try (Recorder recorder = new Recorder(HUNDRED_BYTES)) {
      recorder.feed("'" + "x".repeat(100_000) + "\\'\"{' {\"next\":1}");
      assertThat(recorder.frames).containsExactly(TOO_LARGE, "{\"next\":1}");
    }
  }

  @Test
  void aWordIsReadOverToItsEnd() {
    try (Recorder recorder = new Recorder(HUNDRED_BYTES)) {
      recorder.feed("x".repeat(1000) + "{\"next\":1}" + "1".repeat(1000) + " {\"next\":2}");
      assertThat(recorder.frames)
          .containsExactly(TOO_LARGE, "{\"next\":1}", TOO_LARGE, "{\"next\":2}");
    }
  }

  @Test
  void aControlCharacterEndsWhatIsReadOver() {
    try (Recorder recorder = new Recorder(HUNDRED_BYTES)) {
      recorder.feed("{\"a\": \"" + "x".repeat(1000));
      recorder.feed("\u00FF{\"next\":1}");
      assertThat(recorder.frames)
          .containsExactly(TOO_LARGE, "!JSON parse error, stray '\uFFFD'", "{\"next\":1}");
    }
  }

  @Test
  void unbalancedBracketsEndWhatIsReadOver() {
    try (Recorder recorder = new Recorder(HUNDRED_BYTES)) {
      recorder.feed("[[" + "1,".repeat(1000) + "}{\"next\":1}");
      assertThat(recorder.frames).containsExactly(TOO_LARGE, "{\"next\":1}");
    }
  }

  @Test
  void tooManyTokensAndTooDeepAreAnsweredAsByQemu() {
    try (Recorder recorder = new Recorder(new QmpLimits(10_000, 5, 3))) {
      recorder.feed("[1,2][1,2 3][[[1]]][[[[");
      assertThat(recorder.frames)
          .containsExactly(
              "[1,2]",
              "!JSON token count limit exceeded",
              "!JSON token count limit exceeded",
              "]",
              "!JSON nesting depth limit exceeded");
    }
  }

  @Test
  void manyConnectionsShareTheBudget() {
    FrameBudget small = new FrameBudget(10_000);
    List<FrameBudget.Account> accounts = new ArrayList<>();
    List<String> refused = new ArrayList<>();
    for (int i = 0; i < 100; i++) {
      FrameBudget.Account account = small.openAccount();
      accounts.add(account);
      QmpFramer framer =
          new QmpFramer(
              QmpLimits.DEFAULT,
              account,
              new QmpFramer.Sink() {
                @Override
                public void complete(byte[] text, int length, FrameBudget.Lease lease) {
                  throw new AssertionError("half a message");
                }

                @Override
                public void malformed(String description) {
                  refused.add(description);
                }
              });
      framer.feed(ByteBuffer.wrap("{\"half a message".getBytes(StandardCharsets.UTF_8)));
      assertThat(small.reservedBytes()).isLessThanOrEqualTo(10_000);
    }
    assertThat(refused).hasSize(100 - 10_000 / 256).containsOnly("JSON token size limit exceeded");
    accounts.forEach(FrameBudget.Account::close);
    assertThat(small.reservedBytes()).isZero();
  }

  @Test
  void aParsedMessageHoldsItsShareUntilItIsClosed() {
    try (Recorder recorder = new Recorder(QmpLimits.DEFAULT)) {
      recorder.feed("[1,2,3]".repeat(3));
      assertThat(recorder.leases).hasSize(3);
      long held = budget.reservedBytes();
      assertThat(held).isGreaterThanOrEqualTo(3 * 7 * 50);
      recorder.leases.forEach(FrameBudget.Lease::close);
      recorder.leases.forEach(FrameBudget.Lease::close);
      assertThat(budget.reservedBytes()).isZero();
    }
  }

  @Test
  void whatQueuesUpIsRefusedWhenTheBudgetIsSpentAndWelcomeAgainAfterwards() {
    try (Recorder recorder = new Recorder(QmpLimits.DEFAULT)) {
      String message = "[" + "1,".repeat(2000) + "1]";
      recorder.feed(message.repeat(20));
      assertThat(recorder.frames).contains(message, TOO_LARGE).hasSize(20);
      assertThat(budget.reservedBytes()).isLessThanOrEqualTo(1 << 20);
      recorder.leases.forEach(FrameBudget.Lease::close);
      recorder.frames.clear();
      recorder.feed(message);
      assertThat(recorder.frames).containsExactly(message);
    }
  }

  @Test
  void aClosedConnectionHoldsNothingWhateverWasForgotten() {
    Recorder recorder = new Recorder(QmpLimits.DEFAULT);
    recorder.feed("[1,2,3]{\"half");
    assertThat(budget.reservedBytes()).isPositive();
    recorder.close();
    assertThat(budget.reservedBytes()).isZero();
    recorder.leases.forEach(FrameBudget.Lease::close);
    assertThat(budget.reservedBytes()).isZero();
    recorder.feed("[1]");
    assertThat(recorder.frames).containsExactly("[1,2,3]");
  }

  @Test
  void longStrayTokensAreShownInPart() {
    try (Recorder recorder = new Recorder(QmpLimits.DEFAULT)) {
      recorder.feed("\"" + "x".repeat(100_000) + "\n");
      assertThat(recorder.frames).hasSize(1);
      assertThat(recorder.frames.getFirst())
          .hasSizeLessThan(5000)
          .startsWith("!JSON parse error, stray '\"xxx");
    }
  }

  @Test
  void theLargestMessageFitsIntoTheDefaultBudget() throws Exception {
    FrameBudget defaultBudget = new FrameBudget(FrameBudget.DEFAULT_TOTAL_BYTES);
    int payload = QmpLimits.DEFAULT.maxMessageBytes() - "{'id':''}".length();
    List<String> ids = new ArrayList<>();
    QmpFramer.Sink sink =
        new QmpFramer.Sink() {
          @Override
          public void complete(byte[] text, int length, FrameBudget.Lease lease) {
            try (lease) {
              ids.add(QmpJson.parseFrame(text, length).get("id").stringValue());
            } catch (QmpParseException e) {
              throw new AssertionError(e);
            }
          }

          @Override
          public void malformed(String description) {
            throw new AssertionError(description);
          }
        };
    try (FrameBudget.Account account = defaultBudget.openAccount();
        QmpFramer framer = new QmpFramer(QmpLimits.DEFAULT, account, sink)) {
      String message = "{'id':'" + "x".repeat(payload) + "'}";
      framer.feed(ByteBuffer.wrap(message.getBytes(StandardCharsets.US_ASCII)));
      assertThat(ids).hasSize(1);
      assertThat(ids.getFirst()).hasSize(payload);
      assertThat(defaultBudget.reservedBytes()).isZero();
    }
  }

  @Test
  void theDeepestMessageFitsOntoASmallStack() throws Exception {
    int depth = QmpLimits.DEFAULT.maxDepth();
    String deepest = "{\"a\": ".repeat(depth - 1) + "[]" + "}".repeat(depth - 1);
    List<String> written = new ArrayList<>();
    List<Throwable> trouble = new ArrayList<>();
    Runnable roundTrip =
        () -> {
          try {
            written.add(QmpJson.write(QmpJson.parse(deepest)));
          } catch (QmpParseException e) {
            throw new AssertionError(e);
          }
        };
    Thread thread = new Thread(null, roundTrip, "small stack", 512 << 10);
    thread.setUncaughtExceptionHandler((failed, e) -> trouble.add(e));
    thread.start();
    thread.join();
    assertThat(trouble).isEmpty();
    assertThat(written).containsExactly(deepest);
  }
}
