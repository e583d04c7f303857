package dev.postcopyd.control;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.qmp.codec.QmpLimits;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Sessions over real sockets, byte by byte. The answers are those of QEMU 10.0.2. */
class QmpServerIT {
  private static final Duration A_WHILE = Duration.ofMillis(150);
  private static final String NEGOTIATE = "{\"execute\": \"qmp_capabilities\"}";
  private static final String NEGOTIATE_OOB =
      "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}";
  private static final String EMPTY = "{\"return\": {}}";
  private static final String BLOCK = "{\"execute\": \"__dev.postcopyd_block\"}";

  @TempDir Path directory;

  private Path path;
  private TestServer test;

  @BeforeEach
  void start() throws IOException {
    path = directory.resolve("qmp.sock");
    test = TestServer.on(path);
  }

  @AfterEach
  void stop() {
    test.close();
    assertThat(path).doesNotExist();
  }

  private RawClient connected() throws IOException {
    RawClient client = RawClient.connect(path);
    assertThat(client.line()).isEqualTo(TestServer.GREETING);
    return client;
  }

  private RawClient negotiated() throws IOException {
    return after(NEGOTIATE);
  }

  private RawClient negotiatedWithOob() throws IOException {
    return after(NEGOTIATE_OOB);
  }

  private RawClient after(String negotiation) throws IOException {
    RawClient client = connected();
    client.send(negotiation);
    assertThat(client.line()).isEqualTo(EMPTY);
    return client;
  }

  private static String hello(int id) {
    return "{\"execute\": \"__dev.postcopyd_hello\", \"id\": " + id + "}";
  }

  private static String helloAnswer(int id) {
    return "{\"return\": \"hello\", \"id\": " + id + "}";
  }

  private static String error(String desc) {
    return "{\"error\": {\"class\": \"GenericError\", \"desc\": \"" + desc + "\"}}";
  }

  private static String notFound(String desc) {
    return "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"" + desc + "\"}}";
  }

  // Greeting and negotiation.

  @Test
  void theGreetingComesAloneAndAtOnce() throws Exception {
    try (RawClient client = RawClient.connect(path)) {
      assertThat(client.chunk()).isEqualTo(TestServer.GREETING + "\r\n");
      assertThat(client.isSilentFor(A_WHILE)).isTrue();
    }
  }

  @Test
  void beforeTheNegotiationThereIsNothingElse() throws Exception {
    try (RawClient client = connected()) {
      client.send("{\"execute\": \"query-status\", \"id\": 1}");
      assertThat(client.line())
          .isEqualTo(
              "{\"id\": 1, \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Expecting"
                  + " capabilities negotiation with 'qmp_capabilities'\"}}");
      client.send("{\"execute\": \"no-such-command\"}");
      assertThat(client.line())
          .isEqualTo(notFound("Expecting capabilities negotiation with 'qmp_capabilities'"));
      client.send("{\"exec-oob\": \"migrate-pause\"}");
      assertThat(client.line()).isEqualTo(error("QMP input member 'exec-oob' is unexpected"));
      client.send("[]");
      assertThat(client.line()).isEqualTo(error("QMP input must be a JSON object"));
      client.send(NEGOTIATE);
      assertThat(client.line()).isEqualTo(EMPTY);
      client.send("{\"execute\": \"query-name\"}");
      assertThat(client.line()).isEqualTo("{\"return\": {\"name\": \"guest\"}}");
    }
  }

  @Test
  void theNegotiationIsDoneOnce() throws Exception {
    try (RawClient client = negotiated()) {
      client.send("{\"execute\": \"qmp_capabilities\", \"id\": 2}");
      assertThat(client.line())
          .isEqualTo(
              "{\"id\": 2, \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Capabilities"
                  + " negotiation is already complete, command ignored\"}}");
    }
  }

  @Test
  void anUnknownCapabilityIsRefusedAndTheNegotiationGoesOn() throws Exception {
    try (RawClient client = connected()) {
      client.send("{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"bogus\"]}}");
      assertThat(client.line()).isEqualTo(error("Parameter 'null' does not accept value 'bogus'"));
      client.send(NEGOTIATE_OOB);
      assertThat(client.line()).isEqualTo(EMPTY);
    }
  }

  @Test
  void noEventComesBeforeTheNegotiationOrItsAnswer() throws Exception {
    try (RawClient early = connected();
        RawClient client = negotiated()) {
      test.emit(1);
      assertThat(client.line()).contains("\"event\": \"MIGRATION_PASS\", \"data\": {\"pass\": 1}}");
      assertThat(early.isSilentFor(A_WHILE)).isTrue();
      early.send(NEGOTIATE);
      assertThat(early.line()).isEqualTo(EMPTY);
      test.emit(2);
      assertThat(early.line()).contains("{\"pass\": 2}");
    }
  }

  @Test
  void theAnswerToTheNegotiationComesBeforeEveryEvent() throws Exception {
    Thread emitter =
        Thread.ofPlatform()
            .start(() -> {
              while (!Thread.currentThread().isInterrupted()) {
                test.emit(1);
                Thread.onSpinWait();
              }
            });
    try {
      for (int i = 0; i < 30; i++) {
        try (RawClient client = connected()) {
          client.send(NEGOTIATE);
          assertThat(client.line()).isEqualTo(EMPTY);
          assertThat(client.line()).contains("MIGRATION_PASS");
        }
      }
    } finally {
      emitter.interrupt();
      emitter.join();
    }
  }

  // Framing.

  @Test
  void bytesMayComeOneByOne() throws Exception {
    try (RawClient client = connected()) {
      client.sendBytewise("\r\n " + NEGOTIATE + "\n\n{'execute': 'query-target'}");
      assertThat(client.line()).isEqualTo(EMPTY);
      assertThat(client.line()).isEqualTo("{\"return\": {\"arch\": \"x86_64\"}}");
    }
  }

  @Test
  void severalCommandsMayComeInOneWriteWithoutAnythingBetween() throws Exception {
    try (RawClient client = connected()) {
      StringBuilder all = new StringBuilder(NEGOTIATE);
      for (int i = 0; i < 300; i++) {
        all.append(hello(i));
      }
      client.send(all.toString());
      assertThat(client.line()).isEqualTo(EMPTY);
      for (int i = 0; i < 300; i++) {
        assertThat(client.line()).isEqualTo(helloAnswer(i));
      }
      assertThat(client.isSilentFor(A_WHILE)).isTrue();
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "1 | 1",
        "-1 | -1",
        "null | null",
        "\"x\" | \"x\"",
        "\"\" | \"\"",
        "'single' | \"single\"",
        "\"\\u00e9\" | \"\\u00E9\"",
        "1.50 | 1.5",
        "18446744073709551615 | 18446744073709551615",
        "[1, {\"a\": []}] | [1, {\"a\": []}]",
        "{} | {}",
        "true | true",
      })
  void theIdComesBackWhateverItIs(String sent, String returned) throws Exception {
    try (RawClient client = negotiated()) {
      client.send("{\"execute\": \"stop\", \"id\": " + sent + "}");
      assertThat(client.line()).isEqualTo("{\"return\": {}, \"id\": " + returned + "}");
      client.send("{\"execute\": \"nope\", \"id\": " + sent + "}");
      assertThat(client.line())
          .isEqualTo(
              "{\"id\": "
                  + returned
                  + ", \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command nope has"
                  + " not been found\"}}");
      client.send("{\"id\": " + sent + "}");
      assertThat(client.line())
          .isEqualTo(
              "{\"id\": "
                  + returned
                  + ", \"error\": {\"class\": \"GenericError\", \"desc\": \"QMP input lacks member"
                  + " 'execute'\"}}");
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{\"execute\": 1} | QMP input member 'execute' must be a string",
        "{\"execute\": \"stop\", \"arguments\": []} | QMP input member 'arguments' must be an"
            + " object",
        "{\"execute\": \"stop\", \"foo\": 1} | QMP input member 'foo' is unexpected",
        "{\"exec-oob\": \"migrate-pause\"} | QMP input member 'exec-oob' is unexpected",
        "{} | QMP input lacks member 'execute'",
        "{\"execute\": \"stop\", \"arguments\": {\"x\": 1}} | Parameter 'x' is unexpected",
        "{\"execute\": \"getfd\"} | Parameter 'fdname' is missing",
        "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": 1}} | Invalid parameter type for"
            + " 'fdname', expected: string",
        "[] | QMP input must be a JSON object",
        "1 | QMP input must be a JSON object",
        "garbage | JSON parse error, invalid keyword 'garbage'",
      })
  void aRequestThatMakesNoSenseIsAnsweredAsQemuDoes(String request, String desc) throws Exception {
    try (RawClient client = negotiated()) {
      client.send(request + "\n");
      assertThat(client.line()).isEqualTo(error(desc));
      client.send(hello(1));
      assertThat(client.line()).isEqualTo(helloAnswer(1));
    }
  }

  @Test
  void garbageIsAnsweredAndTheNextCommandWorks() throws Exception {
    try (RawClient client = negotiated()) {
      client.send(new byte[] {(byte) 0xFF});
      client.send(hello(1));
      assertThat(client.line())
          .startsWith(
              "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray '");
      assertThat(client.line()).isEqualTo(helloAnswer(1));
      client.send("{\"execute\": \"st\u0001");
      assertThat(client.line()).contains("JSON parse error, stray");
      client.send(hello(2));
      assertThat(client.line()).isEqualTo(helloAnswer(2));
    }
  }

  @Test
  void aMalformedRequestIsAnsweredInItsTurn() throws Exception {
    try (RawClient client = negotiatedWithOob()) {
      client.send(BLOCK + "{\"execute\": 1}" + "%" + hello(3));
      assertThat(client.isSilentFor(A_WHILE)).isTrue();
      test.letThrough.release();
      assertThat(client.line()).isEqualTo(EMPTY);
      assertThat(client.line()).isEqualTo(error("QMP input member 'execute' must be a string"));
      assertThat(client.line()).contains("JSON parse error");
      assertThat(client.line()).isEqualTo(helloAnswer(3));
    }
  }

  @Test
  void nestingIsLimited() throws Exception {
    try (RawClient client = negotiated()) {
      client.send("{\"execute\": \"stop\", \"id\": " + "[".repeat(1_000_000));
      assertThat(client.line()).isEqualTo(error("JSON nesting depth limit exceeded"));
      client.send("\u0001");
      String line;
      do {
        line = client.line();
        assertThat(line).contains("JSON");
      } while (!line.contains("stray"));
      client.send(hello(1));
      assertThat(client.line()).isEqualTo(helloAnswer(1));
    }
  }

  @Test
  void aMessageOfAHundredMegabytesIsRefusedOnceAndHoldsNobodyUp() throws Exception {
    try (RawClient client = negotiated();
        RawClient other = negotiated()) {
      client.send("{\"execute\": \"");
      byte[] part = "x".repeat(1 << 20).getBytes(java.nio.charset.StandardCharsets.US_ASCII);
      for (int i = 0; i < 100; i++) {
        client.send(part);
        if (i % 20 == 0) {
          other.send(hello(i));
          assertThat(other.line()).isEqualTo(helloAnswer(i));
        }
      }
      client.send("\"}");
      assertThat(client.line()).isEqualTo(error("JSON token size limit exceeded"));
      client.send(hello(1));
      assertThat(client.line()).isEqualTo(helloAnswer(1));
    }
  }

  @Test
  void allConnectionsTogetherAreLimited() throws Exception {
    Path small = directory.resolve("small.sock");
    QmpServerSettings settings =
        new QmpServerSettings(
            TestServer.version(), QmpLimits.DEFAULT, 3 << 20, 100, 10 << 20, 64 << 20);
    try (TestServer _ = TestServer.on(settings, "unix:" + small)) {
      List<RawClient> clients = new ArrayList<>();
      String half = "{\"execute\": \"stop\", \"id\": \"" + "x".repeat(1_200_000);
      int refused = 0;
      for (int i = 0; i < 4; i++) {
        RawClient client = RawClient.connect(small);
        clients.add(client);
        client.line();
        client.send(NEGOTIATE);
        client.line();
        client.send(half);
        if (!client.isSilentFor(A_WHILE)) {
          assertThat(client.line()).isEqualTo(error("JSON token size limit exceeded"));
          refused++;
        }
      }
      assertThat(refused).isBetween(1, 3);
      for (RawClient client : clients) {
        client.close();
      }
      try (RawClient client = RawClient.connect(small)) {
        client.line();
        client.send(NEGOTIATE);
        client.line();
        // What the others held has been given back.
        String id = "x".repeat(600_000);
        client.send("{\"execute\": \"stop\", \"id\": \"" + id + "\"}");
        assertThat(client.line()).isEqualTo("{\"return\": {}, \"id\": \"" + id + "\"}");
      }
    }
  }

  @Test
  void halfAMessageAndTheEndIsNoTrouble() throws Exception {
    for (int i = 0; i < 20; i++) {
      try (RawClient client = negotiated()) {
        client.send("{\"execute\": \"sto");
      }
    }
    try (RawClient client = negotiated()) {
      client.send("{\"execute\": \"sto");
      client.shutdownOutput();
      assertThat(client.rest()).isEmpty();
    }
    try (RawClient client = negotiated()) {
      client.send(hello(1));
      assertThat(client.line()).isEqualTo(helloAnswer(1));
    }
  }

  @Test
  void whoeverStopsSendingStillGetsTheAnswers() throws Exception {
    try (RawClient client = RawClient.connect(path)) {
      StringBuilder all = new StringBuilder(NEGOTIATE);
      StringBuilder expected = new StringBuilder(TestServer.GREETING + "\r\n" + EMPTY + "\r\n");
      for (int i = 0; i < 50; i++) {
        all.append(hello(i)).append('\n');
        expected.append(helloAnswer(i)).append("\r\n");
      }
      client.send(all.toString());
      client.shutdownOutput();
      assertThat(client.rest()).isEqualTo(expected.toString());
    }
  }

  // Order, out of band, several clients.

  @Test
  void outOfBandOvertakesWhatIsUnderWayAndWhatWaits() throws Exception {
    try (RawClient client = negotiatedWithOob()) {
      client.send(
          BLOCK + hello(1) + "{\"exec-oob\": \"__dev.postcopyd_hello-oob\", \"id\": 2}" + hello(3));
      assertThat(client.line()).isEqualTo("{\"return\": \"out of band\", \"id\": 2}");
      assertThat(client.isSilentFor(A_WHILE)).isTrue();
      test.letThrough.release();
      assertThat(client.line()).isEqualTo(EMPTY);
      assertThat(client.line()).isEqualTo(helloAnswer(1));
      assertThat(client.line()).isEqualTo(helloAnswer(3));
      client.send("{\"execute\": \"__dev.postcopyd_hello-oob\", \"id\": 4}");
      assertThat(client.line()).isEqualTo("{\"return\": \"in band\", \"id\": 4}");
    }
  }

  @Test
  void outOfBandErrorsComeAtOnceToo() throws Exception {
    try (RawClient client = negotiatedWithOob()) {
      client.send(BLOCK);
      client.send("{\"exec-oob\": \"query-status\", \"id\": 1}");
      assertThat(client.line())
          .isEqualTo(
              "{\"id\": 1, \"error\": {\"class\": \"GenericError\", \"desc\": \"The command"
                  + " query-status does not support OOB\"}}");
      client.send("{\"exec-oob\": \"nope\"}");
      assertThat(client.line()).isEqualTo(notFound("The command nope has not been found"));
      client.send("{\"exec-oob\": 1}");
      assertThat(client.line()).isEqualTo(error("QMP input member 'exec-oob' must be a string"));
      client.send("{\"exec-oob\": \"migrate-pause\", \"id\": 5}");
      assertThat(client.line())
          .isEqualTo(
              "{\"id\": 5, \"error\": {\"class\": \"GenericError\", \"desc\": \"migrate-pause is"
                  + " currently only supported during postcopy-active or postcopy-recover"
                  + " state\"}}");
      test.letThrough.release();
      assertThat(client.line()).isEqualTo(EMPTY);
    }
  }

  @Test
  void aRequestWithBothKindsIsInBand() throws Exception {
    try (RawClient client = negotiatedWithOob()) {
      client.send(BLOCK + "{\"execute\": \"stop\", \"exec-oob\": \"stop\"}");
      assertThat(client.isSilentFor(A_WHILE)).isTrue();
      test.letThrough.release();
      assertThat(client.line()).isEqualTo(EMPTY);
      assertThat(client.line())
          .isEqualTo(error("QMP input member 'execute' clashes with 'exec-oob'"));
    }
  }

  @Test
  void withOobEightRequestsWaitAndNoMoreIsRead() throws Exception {
    try (RawClient client = negotiatedWithOob()) {
      client.send(BLOCK);
      assertThat(test.blocked.tryAcquire(20, TimeUnit.SECONDS)).isTrue();
      for (int i = 0; i < 7; i++) {
        client.send(hello(i));
      }
      client.send("{\"exec-oob\": \"__dev.postcopyd_hello-oob\", \"id\": 70}");
      assertThat(client.line()).isEqualTo("{\"return\": \"out of band\", \"id\": 70}");
      client.send(hello(7));
      // The queue is full, so not even this is looked at.
      client.send("{\"exec-oob\": \"__dev.postcopyd_hello-oob\", \"id\": 80}");
      assertThat(client.isSilentFor(A_WHILE)).isTrue();
      test.letThrough.release();
      List<String> lines = new ArrayList<>();
      for (int i = 0; i < 10; i++) {
        lines.add(client.line());
      }
      assertThat(lines.getFirst()).isEqualTo(EMPTY);
      assertThat(lines).contains("{\"return\": \"out of band\", \"id\": 80}");
      lines.remove("{\"return\": \"out of band\", \"id\": 80}");
      for (int i = 0; i < 8; i++) {
        assertThat(lines.get(i + 1)).isEqualTo(helloAnswer(i));
      }
    }
  }

  @Test
  void withoutOobNothingIsReadWhileACommandIsUnderWay() throws Exception {
    try (RawClient client = negotiated()) {
      client.send(BLOCK);
      assertThat(test.blocked.tryAcquire(20, TimeUnit.SECONDS)).isTrue();
      byte[] command = hello(1).getBytes(java.nio.charset.StandardCharsets.US_ASCII);
      long sent = 0;
      for (int full = 0; full < 20; ) {
        int count = client.trySend(command, 0);
        sent += count;
        if (count < command.length) {
          full++;
          Thread.sleep(10);
        }
      }
      // Only the kernel's buffers take it.
      assertThat(sent).isLessThan(4 << 20);
      assertThat(client.isSilentFor(A_WHILE)).isTrue();
    }
  }

  @Test
  void anotherClientIsReadAndAnsweredWhileOneBlocksItsOwnQueueOnly() throws Exception {
    try (RawClient one = negotiatedWithOob();
        RawClient two = negotiatedWithOob()) {
      one.send(BLOCK);
      assertThat(test.blocked.tryAcquire(20, TimeUnit.SECONDS)).isTrue();
      two.send(hello(1) + "{\"exec-oob\": \"__dev.postcopyd_hello-oob\", \"id\": 2}");
      assertThat(two.line()).isEqualTo("{\"return\": \"out of band\", \"id\": 2}");
      // In-band commands of all clients run one after the other.
      assertThat(two.isSilentFor(A_WHILE)).isTrue();
      test.letThrough.release();
      assertThat(two.line()).isEqualTo(helloAnswer(1));
      assertThat(one.line()).isEqualTo(EMPTY);
    }
  }

  @Test
  void clientsTakeTurns() throws Exception {
    try (RawClient busy = negotiatedWithOob();
        RawClient patient = negotiated()) {
      busy.send(BLOCK);
      assertThat(test.blocked.tryAcquire(20, TimeUnit.SECONDS)).isTrue();
      for (int i = 0; i < 8; i++) {
        busy.send(BLOCK);
      }
      patient.send(hello(1));
      Thread.sleep(A_WHILE);
      test.letThrough.release();
      assertThat(test.blocked.tryAcquire(20, TimeUnit.SECONDS)).isTrue();
      // After at most one more command of the busy client it is the patient one's turn.
      test.letThrough.release();
      assertThat(patient.line()).isEqualTo(helloAnswer(1));
      assertThat(test.blocked.availablePermits()).isLessThanOrEqualTo(1);
    }
  }

  @Test
  void everyClientHasItsOwnNegotiationAndIds() throws Exception {
    try (RawClient one = negotiatedWithOob();
        RawClient two = connected()) {
      two.send("{\"execute\": \"query-status\", \"id\": 1}");
      assertThat(two.line()).contains("Expecting capabilities negotiation");
      one.send("{\"execute\": \"__dev.postcopyd_hello\", \"id\": \"same\"}");
      two.send(NEGOTIATE);
      assertThat(two.line()).isEqualTo(EMPTY);
      two.send("{\"execute\": \"query-name\", \"id\": \"same\"}");
      assertThat(one.line()).isEqualTo("{\"return\": \"hello\", \"id\": \"same\"}");
      assertThat(two.line()).isEqualTo("{\"return\": {\"name\": \"guest\"}, \"id\": \"same\"}");
      two.send("{\"exec-oob\": \"migrate-pause\"}");
      assertThat(two.line()).isEqualTo(error("QMP input member 'exec-oob' is unexpected"));
    }
  }

  // Events.

  @Test
  void anEventComesBeforeTheAnswerOfTheCommandThatCausedIt() throws Exception {
    try (RawClient client = negotiated();
        RawClient other = negotiated()) {
      for (int i = 0; i < 50; i++) {
        client.send("{\"execute\": \"cont\"}");
        assertThat(client.line())
            .matches(
                "\\{\"timestamp\": \\{\"seconds\": [0-9]+, \"microseconds\": [0-9]+\\}, "
                    + "\"event\": \"RESUME\"\\}");
        assertThat(client.line()).isEqualTo(EMPTY);
        client.send("{\"execute\": \"stop\"}");
        assertThat(client.line()).endsWith("\"event\": \"STOP\"}");
        assertThat(client.line()).isEqualTo(EMPTY);
        assertThat(other.line()).endsWith("\"event\": \"RESUME\"}");
        assertThat(other.line()).endsWith("\"event\": \"STOP\"}");
      }
    }
  }

  @Test
  void migrationEventsComeOnlyWithTheCapability() throws Exception {
    try (RawClient client = negotiated()) {
      client.send("{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"file:/x\"}}");
      assertThat(client.line()).isEqualTo(EMPTY);
      client.send(
          "{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\": "
              + "[{\"capability\": \"events\", \"state\": true}]}}");
      assertThat(client.line()).isEqualTo(EMPTY);
      client.send("{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"file:/x\"}}");
      assertThat(client.line())
          .endsWith("\"event\": \"MIGRATION\", \"data\": {\"status\": \"setup\"}}");
      assertThat(client.line()).isEqualTo(EMPTY);
      assertThat(test.migration.calls).containsExactly("incoming file:/x", "incoming file:/x");
    }
  }

  @Test
  void allClientsSeeTheSameOrderOfEvents() throws Exception {
    try (RawClient one = negotiated();
        RawClient two = negotiated()) {
      List<Thread> emitters = new ArrayList<>();
      for (int t = 0; t < 3; t++) {
        int base = t * 1000;
        emitters.add(
            Thread.ofPlatform()
                .start(() -> {
                  for (int i = 0; i < 200; i++) {
                    test.emit(base + i);
                  }
                }));
      }
      for (Thread emitter : emitters) {
        emitter.join();
      }
      for (int i = 0; i < 600; i++) {
        assertThat(one.line()).isEqualTo(two.line());
      }
    }
  }

  // Bad times.

  @Test
  void aBugIsAnsweredAndTheDaemonLives() throws Exception {
    try (RawClient client = negotiated()) {
      client.send("{\"execute\": \"__dev.postcopyd_bug\", \"id\": 1}");
      assertThat(client.line())
          .isEqualTo(
              "{\"id\": 1, \"error\": {\"class\": \"GenericError\", \"desc\": \"internal error:"
                  + " java.lang.IllegalStateException: no page index\"}}");
      client.send(hello(2));
      assertThat(client.line()).isEqualTo(helloAnswer(2));
    }
  }

  @Test
  void aClientThatDoesNotReadEventsIsDisconnectedAndHoldsNobodyUp() throws Exception {
    try (RawClient slow = negotiated();
        RawClient other = negotiated()) {
      int sent = 0;
      while (test.server.connections() == 2 && sent < 1_000_000) {
        test.emit(sent++);
        assertThat(other.line()).contains("MIGRATION_PASS");
      }
      assertThat(test.server.connections()).isEqualTo(1);
      // Roughly ten megabytes of events and what the kernel holds.
      assertThat(sent).isBetween(50_000, 250_000);
      other.send(hello(1));
      assertThat(other.line()).isEqualTo(helloAnswer(1));
      assertThat(slow.rest()).startsWith("{\"timestamp\"");
    }
  }

  @Test
  void whenAllClientsTogetherLeaveTooMuchTheWorstIsDisconnected() throws Exception {
    Path small = directory.resolve("small.sock");
    QmpServerSettings settings =
        new QmpServerSettings(
            TestServer.version(), QmpLimits.DEFAULT, 3 << 20, 100, 10 << 20, 3 << 20);
    try (TestServer limited = TestServer.on(settings, "unix:" + small);
        RawClient worst = RawClient.connect(small);
        RawClient bad = RawClient.connect(small);
        RawClient good = RawClient.connect(small)) {
      for (RawClient client : List.of(worst, bad, good)) {
        client.line();
        client.send(NEGOTIATE);
        client.line();
      }
      worst.send("{\"execute\": \"__dev.postcopyd_large\"}");
      Thread.sleep(A_WHILE);
      int sent = 0;
      while (limited.server.connections() == 3 && sent < 1_000_000) {
        limited.emit(sent++);
        assertThat(good.line()).contains("MIGRATION_PASS");
      }
      assertThat(worst.rest().contains("{\"return\": \"xxx")).isTrue();
      for (int i = 0; i < sent; i++) {
        assertThat(bad.line()).contains("MIGRATION_PASS");
      }
    }
  }

  @Test
  void aClientThatDoesNotReadAnswersIsNotReadEither() throws Exception {
    try (RawClient client = negotiated()) {
      byte[] command =
          "{\"execute\": \"__dev.postcopyd_large\"}"
              .getBytes(java.nio.charset.StandardCharsets.US_ASCII);
      int sent = 0;
      for (int full = 0; full < 20; ) {
        int count = client.trySend(command, sent % command.length);
        sent += count;
        if (count == 0) {
          full++;
          Thread.sleep(10);
        }
      }
      // Nobody was disconnected, and every command that was sent whole is answered.
      assertThat(test.server.connections()).isEqualTo(1);
      int answers = Math.min(sent / command.length, 30);
      for (int i = 0; i < answers; i++) {
        assertThat(client.line()).hasSize((1 << 20) + "{\"return\": \"\"}".length());
      }
    }
  }

  @Test
  void aThousandIdleConnectionsAreServedAndThenNobody() throws Exception {
    List<RawClient> idle = new ArrayList<>();
    try {
      for (int i = 0; i < 1024; i++) {
        RawClient client = RawClient.connect(path);
        idle.add(client);
        assertThat(client.line()).isEqualTo(TestServer.GREETING);
      }
      try (RawClient refused = RawClient.connect(path)) {
        assertThat(refused.rest())
            .isEqualTo(error("too many clients: at most 1024 are served") + "\r\n");
      }
      RawClient last = idle.getLast();
      last.send(NEGOTIATE + hello(1));
      assertThat(last.line()).isEqualTo(EMPTY);
      assertThat(last.line()).isEqualTo(helloAnswer(1));
      idle.removeFirst().close();
      RawClient next = null;
      for (int i = 0; i < 100 && next == null; i++) {
        RawClient client = RawClient.connect(path);
        if (client.line().equals(TestServer.GREETING)) {
          next = client;
        } else {
          client.close();
          Thread.sleep(20);
        }
      }
      assertThat(next).isNotNull();
      idle.add(next);
    } finally {
      for (RawClient client : idle) {
        client.close();
      }
    }
    for (int i = 0; i < 200 && test.server.connections() > 0; i++) {
      Thread.sleep(20);
    }
    assertThat(test.server.connections()).isZero();
  }

  @Test
  void aClientThatGoesWhileItsCommandRunsLeavesNothing() throws Exception {
    for (int i = 0; i < 3; i++) {
      try (RawClient client = negotiatedWithOob()) {
        client.send(BLOCK + hello(1) + hello(2));
        assertThat(test.blocked.tryAcquire(20, TimeUnit.SECONDS)).isTrue();
      }
      test.letThrough.release();
    }
    try (RawClient client = negotiated()) {
      client.send(hello(1));
      assertThat(client.line()).isEqualTo(helloAnswer(1));
    }
    for (int i = 0; i < 200 && test.server.connections() > 0; i++) {
      Thread.sleep(20);
    }
    assertThat(test.server.connections()).isZero();
  }

  // The end.

  @Test
  void quitAnnouncesTheEndAnswersAndEnds() throws Exception {
    try (RawClient client = negotiated();
        RawClient other = negotiated()) {
      client.send("{\"execute\": \"quit\", \"id\": 9}");
      assertThat(client.line())
          .endsWith(
              "\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\":"
                  + " \"host-qmp-quit\"}}");
      assertThat(client.line()).isEqualTo("{\"return\": {}, \"id\": 9}");
      assertThat(test.stopped.await(20, TimeUnit.SECONDS)).isTrue();
      test.server.close();
      assertThat(client.rest()).isEmpty();
      assertThat(other.line()).contains("SHUTDOWN");
      assertThat(other.rest()).isEmpty();
      assertThat(path).doesNotExist();
    }
  }

  @Test
  void closingSendsWhatIsToBeSent() throws Exception {
    try (RawClient client = negotiated()) {
      client.send("{\"execute\": \"__dev.postcopyd_large\"}");
      Thread.sleep(A_WHILE);
      Thread closer = Thread.ofPlatform().start(test.server::close);
      assertThat(client.line()).hasSize((1 << 20) + "{\"return\": \"\"}".length());
      assertThat(client.rest()).isEmpty();
      closer.join();
    }
  }

  @Test
  void closingDoesNotWaitForAClientThatDoesNotRead() throws Exception {
    try (RawClient client = negotiated()) {
      client.send("{\"execute\": \"__dev.postcopyd_large\"}");
      Thread.sleep(A_WHILE);
      long before = System.nanoTime();
      test.server.close();
      assertThat(Duration.ofNanos(System.nanoTime() - before)).isLessThan(Duration.ofSeconds(6));
    }
  }

  // Other sockets.

  @ParameterizedTest
  @ValueSource(strings = {"tcp:127.0.0.1:0,insecure=on", "tcp:[::1]:0,insecure=on"})
  void tcpIsServedTheSameWay(String spec) throws Exception {
    try (TestServer tcp =
            TestServer.on(
                QmpServerSettings.of(TestServer.version()), spec, "tcp:localhost:0,insecure=on");
        RawClient client = RawClient.connect(tcp.tcpAddress(0));
        RawClient other = RawClient.connect(tcp.tcpAddress(1))) {
      assertThat(client.line()).isEqualTo(TestServer.GREETING);
      assertThat(other.line()).isEqualTo(TestServer.GREETING);
      client.send(
          NEGOTIATE + hello(1) + "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"x\"}}");
      assertThat(client.line()).isEqualTo(EMPTY);
      assertThat(client.line()).isEqualTo(helloAnswer(1));
      assertThat(client.line()).isEqualTo(error("No file descriptor supplied via SCM_RIGHTS"));
      client.shutdownOutput();
      assertThat(client.rest()).isEmpty();
    }
  }

  @Test
  void aSocketThatCannotBeOpenedLeavesNoneOpen() {
    Path first = directory.resolve("first.sock");
    assertThatThrownBy(() ->
            TestServer.on(
                QmpServerSettings.of(TestServer.version()), "unix:" + first, "unix:" + path))
        .isInstanceOf(IOException.class)
        .hasMessageContaining("another process is listening on it already");
    assertThat(first).doesNotExist();
  }

  @Test
  void serversDoNotLeak() throws Exception {
    Path other = directory.resolve("other.sock");
    int before = 0;
    for (int i = 0; i < 6; i++) {
      try (TestServer _ = TestServer.on(other);
          RawClient client = RawClient.connect(other)) {
        client.line();
      }
      if (i == 1) {
        before = OpenDescriptors.to("").size();
      }
    }
    assertThat(OpenDescriptors.to("").size()).isLessThanOrEqualTo(before + 1);
  }
}
