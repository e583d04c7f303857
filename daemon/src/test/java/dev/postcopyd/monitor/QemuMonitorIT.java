package dev.postcopyd.monitor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/** The session with a monitor that behaves well, badly, or not at all. */
@Timeout(60)
class QemuMonitorIT {
  private static final Duration LIMIT = Duration.ofSeconds(20);

  @TempDir Path directory;

  private final BlockingQueue<String> told = new LinkedBlockingQueue<>();
  private Path path;
  private QemuMonitor monitor;

  @BeforeEach
  void start() throws IOException {
    path = directory.resolve("qemu");
    monitor = new QemuMonitor(path);
    monitor.addListener(
        new QemuMonitor.Listener() {
          @Override
          public void connected(QemuMonitor.Session session) {
            told.add("connected " + session.number());
          }

          @Override
          public void disconnected(QemuMonitor.Session session, String reason) {
            told.add("disconnected " + session.number() + " " + reason);
          }

          @Override
          public void event(Event event, ObjectNode message) {
            told.add("event " + event.name());
          }
        });
  }

  @AfterEach
  void stop() {
    monitor.close();
  }

  private String told() throws InterruptedException {
    return told.poll(LIMIT.toSeconds(), TimeUnit.SECONDS);
  }

  private CompletableFuture<JsonNode> ask(String name, boolean outOfBand) {
    return monitor.execute(new Command(null, name, QmpJson.object(), outOfBand));
  }

  @Test
  void withoutQemuEveryCommandFailsAtOnceAndSaysWhy() {
    monitor.start();

    assertThatThrownBy(() -> monitor.call("query-status", LIMIT))
        .isInstanceOf(MonitorUnavailableException.class)
        .hasMessageContaining(path.toString())
        .hasMessageContaining("is not there");
    assertThat(monitor.session()).isEmpty();
  }

  @Test
  void findsAQemuThatComesLaterAndOneThatComesAgain() throws Exception {
    monitor.start();
    Thread.sleep(50);
    try (ScriptedQemu qemu = new ScriptedQemu(path)) {
      qemu.negotiate();
      assertThat(told()).isEqualTo("connected 1");
      CompletableFuture<JsonNode> answer = ask("query-status", false);
      qemu.answer(qemu.read(), "{\"a\": 1}");
      assertThat(answer.get().toString()).isEqualTo("{\"a\":1}");
      answer = ask("query-status", false);
      assertThat(qemu.read()).contains("query-status");
      qemu.hangUp();
      CompletableFuture<JsonNode> lost = answer;
      assertThatThrownBy(lost::get)
          .hasCauseInstanceOf(MonitorUnavailableException.class)
          .hasMessageContaining("ended before query-status was answered");
      assertThat(told()).startsWith("disconnected 1 ");

      qemu.negotiate();

      assertThat(told()).isEqualTo("connected 2");
      assertThat(monitor.session().orElseThrow().peer().pid())
          .isEqualTo((int) ProcessHandle.current().pid());
    }
  }

  @Test
  void saysThatSomebodyElseIsServedAndWaits() throws Exception {
    try (ScriptedQemu qemu = new ScriptedQemu(path)) {
      monitor.start();
      qemu.accept();
      Thread.sleep(100);
      assertThatThrownBy(() -> monitor.call("query-status", LIMIT))
          .hasMessageContaining("QEMU serves one client at a time");

      qemu.say(ScriptedQemu.GREETING);
      qemu.answer(qemu.read(), "{}");

      assertThat(told()).isEqualTo("connected 1");
    }
  }

  @Test
  void answersAndEventsKeepTheirOrder() throws Exception {
    try (ScriptedQemu qemu = new ScriptedQemu(path)) {
      monitor.start();
      qemu.negotiate();
      assertThat(told()).isEqualTo("connected 1");
      CompletableFuture<Void> answered = ask("stop", false).thenAccept(_ -> told.add("answer"));
      String command = qemu.read();
      qemu.say("{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"STOP\"}\r\n");
      qemu.answer(command, "{}");
      qemu.say("{\"timestamp\": {\"seconds\": 1, \"microseconds\": 3}, \"event\": \"RESUME\"}\r\n");
      answered.get(20, TimeUnit.SECONDS);

      assertThat(List.of(told(), told(), told()))
          .containsExactly("event STOP", "answer", "event RESUME");
    }
  }

  @Test
  void outOfBandIsSentHoweverMuchWaitsInBand() throws Exception {
    try (ScriptedQemu qemu = new ScriptedQemu(path)) {
      monitor.start();
      qemu.negotiate();
      assertThat(told()).isEqualTo("connected 1");
      List<CompletableFuture<JsonNode>> inBand = new ArrayList<>();
      for (int i = 0; i < 20; i++) {
        inBand.add(ask("slow" + i, false));
      }
      CompletableFuture<JsonNode> urgent = ask("urgent", true);

      List<String> sent = new ArrayList<>();
      for (int i = 0; i < RequestQueue.MAX_IN_BAND; i++) {
        sent.add(qemu.read());
        assertThat(sent.get(i)).contains("\"execute\": \"slow" + i + "\"");
      }
      String last = qemu.read();
      assertThat(last).contains("\"exec-oob\": \"urgent\"");
      qemu.answer(last, "1");
      assertThat(urgent.get().toString()).isEqualTo("1");
      assertThat(inBand).noneMatch(CompletableFuture::isDone);
      for (int i = 0; i < 20; i++) {
        qemu.answer(sent.get(i), Integer.toString(i));
        if (sent.size() < 20) {
          sent.add(qemu.read());
        }
        assertThat(inBand.get(i).get().toString()).isEqualTo(Integer.toString(i));
      }
    }
  }

  @Test
  void aRefusalIsOfItsClassAndText() throws Exception {
    try (ScriptedQemu qemu = new ScriptedQemu(path)) {
      monitor.start();
      qemu.negotiate();
      CompletableFuture<JsonNode> answer = monitor.connected().thenCompose(_ -> ask("x", false));
      String id = qemu.read().replaceFirst(".*\"id\": (\\d+).*", "$1");
      qemu.say(
          "{\"id\": "
              + id
              + ", \"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no x\"}}\r\n");

      assertThatThrownBy(answer::get)
          .isInstanceOf(ExecutionException.class)
          .hasCauseInstanceOf(QmpException.class)
          .hasMessageContaining("no x");
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\u0001",
        "{]",
        "[1]",
        "{\"hello\": 1}",
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}",
        "{\"execute\": \"quit\"}"
      })
  void whatIsNoQmpEndsTheConnectionAndIsTriedAgainLater(String nonsense) throws Exception {
    try (ScriptedQemu qemu = new ScriptedQemu(path)) {
      monitor.start();
      qemu.negotiate();
      assertThat(told()).isEqualTo("connected 1");

      qemu.say(nonsense);

      assertThat(told()).startsWith("disconnected 1 ").contains("speaks no QMP");
      assertThat(qemu.isClosedByClient()).isTrue();
      assertThatThrownBy(() -> monitor.call("query-status", LIMIT))
          .hasMessageContaining("speaks no QMP");
      qemu.negotiate();
      assertThat(told()).isEqualTo("connected 2");
    }
  }

  @Test
  void anEndlessMessageIsCutOff() throws Exception {
    try (ScriptedQemu qemu = new ScriptedQemu(path)) {
      monitor.start();
      qemu.negotiate();
      assertThat(told()).isEqualTo("connected 1");
      qemu.say("{\"return\": \"");
      String part = "x".repeat(1 << 20);
      int sent = 0;
      try {
        for (; sent < 64; sent++) {
          qemu.say(part);
        }
      } catch (IOException closed) {
        // as it should be
      }

      assertThat(sent).isBetween(15, 20);
      assertThat(told()).startsWith("disconnected 1 ").contains("size limit");
    }
  }

  @Test
  void answersThatNobodyAskedForAreNoHarm() throws Exception {
    try (ScriptedQemu qemu = new ScriptedQemu(path)) {
      monitor.start();
      qemu.negotiate();
      assertThat(told()).isEqualTo("connected 1");
      qemu.say(
          "{\"return\": {}, \"id\": 4711}\r\n{\"return\": {}, \"id\": \"x\"}\r\n{\"return\": 1}\r\n");
      CompletableFuture<JsonNode> answer = ask("query-status", false);
      qemu.answer(qemu.read(), "5");

      assertThat(answer.get().toString()).isEqualTo("5");
    }
  }

  @Test
  void aLargeCommandIsWrittenWhileQemuTakesItsTime() throws Exception {
    try (ScriptedQemu qemu = new ScriptedQemu(path)) {
      monitor.start();
      qemu.negotiate();
      assertThat(told()).isEqualTo("connected 1");
      String text = "y".repeat(4 << 20);
      CompletableFuture<JsonNode> answer =
          monitor.execute(new Command(null, "big", QmpJson.object().put("text", text), false));
      Thread.sleep(50);
      String command = qemu.read();
      assertThat(command).contains(text);
      qemu.answer(command, "{}");

      assertThat(answer.get().isEmpty()).isTrue();
    }
  }

  @Test
  void aDescriptorGoesWithItsCommandAndIsClosedIfItCannotGo() throws Exception {
    int[] pair = UnixSocket.socketPair();
    int[] pair2 = UnixSocket.socketPair();
    try (FdPassing passing = new FdPassing()) {
      monitor.start();
      assertThat(
              monitor
                  .execute(new Command(null, "getfd", QmpJson.object(), false), pair2[0])
                  .isCompletedExceptionally())
          .isTrue();
      assertThat(isAtEnd(pair2[1])).isTrue();
      int listener = UnixSocket.listen(path, 0600, 1);
      int client = accept(listener);
      passing.send(client, ScriptedQemu.GREETING.getBytes(StandardCharsets.US_ASCII));
      assertThat(receive(passing, client)).contains("qmp_capabilities");
      passing.send(client, "{\"return\": {}, \"id\": 0}\r\n".getBytes(StandardCharsets.US_ASCII));
      assertThat(told()).isEqualTo("connected 1");
      CompletableFuture<JsonNode> first =
          monitor.execute(new Command(null, "getfd", QmpJson.object(), false), pair[0]);
      CompletableFuture<JsonNode> second =
          monitor.execute(
              new Command(null, "add-fd", QmpJson.object(), false), FileDescriptors.dup(pair[1]));
      assertThat(receive(passing, client)).contains("getfd").doesNotContain("add-fd");
      assertThat(passing.fdCount()).isEqualTo(1);
      // The second one waits: QEMU would drop the first one's descriptor for it.
      Thread.sleep(50);
      passing.send(client, "{\"return\": {}, \"id\": 1}\r\n".getBytes(StandardCharsets.US_ASCII));
      assertThat(receive(passing, client)).contains("add-fd");
      assertThat(passing.fdCount()).isEqualTo(1);
      passing.send(client, "{\"return\": {}, \"id\": 2}\r\n".getBytes(StandardCharsets.US_ASCII));
      assertThat(first.get(20, TimeUnit.SECONDS).isEmpty()).isTrue();
      assertThat(second.get(20, TimeUnit.SECONDS).isEmpty()).isTrue();
      received.forEach(FileDescriptors::close);
      FileDescriptors.close(client);
      FileDescriptors.close(listener);
    }
    FileDescriptors.close(pair[1]);
    FileDescriptors.close(pair2[1]);
  }

  private final List<Integer> received = new ArrayList<>();

  private static boolean isAtEnd(int fd) throws IOException {
    try (Poll poll = Poll.readable(fd)) {
      return poll.await(LIMIT.toNanos()) > 0 && poll.isBroken(0);
    }
  }

  private static int accept(int listener) throws Exception {
    int fd;
    while ((fd = UnixSocket.accept(listener)) < 0) {
      Thread.sleep(5);
    }
    FileDescriptors.setNonBlocking(fd, false);
    return fd;
  }

  private String receive(FdPassing passing, int fd) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment buffer = arena.allocate(65536);
      int[] fds = new int[253];
      int count = passing.receive(fd, buffer.address(), 65536, fds);
      for (int i = 0; i < passing.fdCount(); i++) {
        received.add(fds[i]);
      }
      byte[] bytes = buffer.asSlice(0, count).toArray(ValueLayout.JAVA_BYTE);
      return new String(bytes, StandardCharsets.US_ASCII);
    }
  }
}
