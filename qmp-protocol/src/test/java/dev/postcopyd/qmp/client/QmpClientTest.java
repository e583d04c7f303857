package dev.postcopyd.qmp.client;

import static java.nio.charset.StandardCharsets.US_ASCII;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpErrorClass;
import dev.postcopyd.qmp.message.QmpException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketAddress;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import tools.jackson.databind.JsonNode;

/** The client against a server that follows a script; real QEMU is in {@code QmpClientE2E}. */
@Timeout(value = 30, unit = TimeUnit.SECONDS)
class QmpClientTest {
  private static final String GREETING =
      "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10},"
          + " \"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n";
  private static final Duration LIMIT = Duration.ofSeconds(10);

  private final ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
  private final ServerSocket listener;

  QmpClientTest() throws IOException {
    listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
  }

  @AfterEach
  void stop() throws IOException {
    listener.close();
    threads.close();
  }

  /** The server's side of the one connection of a test. */
  private interface Script {
    void run(Peer peer) throws Exception;
  }

  private record Peer(Socket socket, BufferedReader reader) {
    void send(String text) throws IOException {
      socket.getOutputStream().write(text.getBytes(US_ASCII));
    }

    JsonNode receive() throws Exception {
      return QmpJson.parse(reader.readLine());
    }

    void answer(JsonNode command) throws IOException {
      send("{\"return\": {}, \"id\": " + command.get("id") + "}\r\n");
    }
  }

  private Future<?> serve(Script script) {
    return threads.submit(() -> {
      try (Socket socket = listener.accept()) {
        script.run(
            new Peer(
                socket,
                new BufferedReader(new InputStreamReader(socket.getInputStream(), US_ASCII))));
      }
      return null;
    });
  }

  private SocketAddress address() {
    return listener.getLocalSocketAddress();
  }

  @Test
  void negotiatesWithWhatIsOffered() throws Exception {
    List<JsonNode> received = new ArrayList<>();
    Future<?> server =
        serve(peer -> {
          peer.send(GREETING);
          received.add(peer.receive());
          peer.answer(received.getFirst());
        });
    try (QmpClient client = QmpClient.connectAndNegotiate(address(), LIMIT)) {
      server.get();
      assertThat(client.greeting().version().major()).isEqualTo(10);
    }
    assertThat(QmpJson.write(received.getFirst()))
        .isEqualTo(
            "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}, \"id\":"
                + " 0}");
  }

  @Test
  void answersFindTheirCommandInAnyOrder() throws Exception {
    Future<?> server =
        serve(peer -> {
          peer.send(GREETING);
          JsonNode first = peer.receive();
          JsonNode second = peer.receive();
          for (JsonNode command : List.of(second, first)) {
            peer.send(
                "{\"return\": "
                    + command.get("execute")
                    + ", \"id\": "
                    + command.get("id")
                    + "}\r\n");
          }
        });
    try (QmpClient client = QmpClient.connect(address(), LIMIT)) {
      Future<JsonNode> a = threads.submit(() -> client.execute("a"));
      Future<JsonNode> b = threads.submit(() -> client.execute("b"));
      assertThat(a.get().stringValue()).isEqualTo("a");
      assertThat(b.get().stringValue()).isEqualTo("b");
      server.get();
    }
  }

  @Test
  void aRefusalIsAnExceptionOfItsClass() throws Exception {
    Future<?> server =
        serve(peer -> {
          peer.send(GREETING);
          JsonNode command = peer.receive();
          peer.send(
              "{\"id\": "
                  + command.get("id")
                  + ", \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no\"}}\r\n");
        });
    try (QmpClient client = QmpClient.connect(address(), LIMIT)) {
      assertThatThrownBy(() -> client.execute("x"))
          .isInstanceOfSatisfying(
              QmpException.class,
              e -> assertThat(e.errorClass()).isEqualTo(QmpErrorClass.COMMAND_NOT_FOUND))
          .hasMessage("no");
      server.get();
    }
  }

  @Test
  void eventsWaitUntilTheyAreAskedFor() throws Exception {
    Future<?> server =
        serve(peer -> {
          peer.send(GREETING);
          for (String status : List.of("setup", "active", "completed")) {
            peer.send(
                "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\":"
                    + " \"MIGRATION\", \"data\": {\"status\": \""
                    + status
                    + "\"}}\r\n");
          }
        });
    try (QmpClient client = QmpClient.connect(address(), LIMIT)) {
      server.get();
      assertThat(client.nextEvent(LIMIT)).isNotNull();
      assertThat(
              client
                  .awaitEvent(event -> String.valueOf(event.data()).contains("completed"), LIMIT)
                  .timestamp())
          .isEqualTo(Instant.ofEpochSecond(1, 2000));
      assertThatThrownBy(() -> client.nextEvent(LIMIT))
          .isInstanceOf(IOException.class)
          .hasMessageContaining("closed by the server");
    }
  }

  @Test
  void noEventInTimeIsNoEvent() throws Exception {
    Future<?> server =
        serve(peer -> {
          peer.send(GREETING);
          peer.reader().readLine();
        });
    try (QmpClient client = QmpClient.connect(address(), LIMIT)) {
      assertThat(client.nextEvent(Duration.ofMillis(20))).isNull();
      assertThatThrownBy(() -> client.awaitEvent(event -> true, Duration.ofMillis(20)))
          .isInstanceOf(IOException.class);
    }
    server.get();
  }

  @Test
  void aServerThatIsSilentIsGivenUp() throws Exception {
    Future<?> server = serve(peer -> peer.reader().readLine());
    assertThatThrownBy(() -> QmpClient.connect(address(), Duration.ofMillis(100)))
        .isInstanceOf(IOException.class)
        .hasMessageContaining("no answer to greeting");
    server.get();
  }

  @Test
  void aServerThatGoesAwayFailsWhatWaits() throws Exception {
    Future<?> server =
        serve(peer -> {
          peer.send(GREETING);
          peer.receive();
        });
    try (QmpClient client = QmpClient.connect(address(), LIMIT)) {
      assertThatThrownBy(() -> client.execute("x"))
          .isInstanceOf(IOException.class)
          .hasMessageContaining("closed by the server");
      assertThatThrownBy(() -> client.execute("y")).isInstanceOf(IOException.class);
    }
    server.get();
  }

  @Test
  void whatIsNoQmpEndsTheConnection() throws Exception {
    Future<?> server = serve(peer -> peer.send("HTTP/1.1 400 Bad Request\r\n\r\n"));
    assertThatThrownBy(() -> QmpClient.connect(address(), LIMIT))
        .isInstanceOf(IOException.class)
        .hasMessageContaining("no QMP");
    server.get();
  }

  @Test
  void anErrorWithoutIdEndsTheConnection() throws Exception {
    Future<?> server =
        serve(peer -> {
          peer.send(GREETING);
          peer.receive();
          peer.send("{\"error\": {\"class\": \"GenericError\", \"desc\": \"what?\"}}\r\n");
          peer.reader().readLine();
        });
    try (QmpClient client = QmpClient.connect(address(), LIMIT)) {
      assertThatThrownBy(() -> client.execute("x"))
          .isInstanceOf(IOException.class)
          .hasMessageContaining("what?");
    }
    server.get();
  }

  @Test
  void nobodyListening() throws Exception {
    SocketAddress gone = address();
    listener.close();
    assertThatThrownBy(() -> QmpClient.connect(gone, LIMIT))
        .isInstanceOf(IOException.class)
        .hasMessageContaining("cannot connect to " + gone);
  }
}
