package dev.postcopyd.lab;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeoutException;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/**
 * A client of a QMP monitor, QEMU's or the daemon's. Commands are executed one at a time by the
 * test's thread; a thread of its own reads replies and events.
 */
public final class QmpConnection implements AutoCloseable {
  private static final JsonMapper JSON = new JsonMapper();
  private static final Duration PATIENCE = Duration.ofMinutes(2);

  private final SocketChannel channel;
  private final Supplier<String> peerStory;

  private final Object lock = new Object();
  private final List<JsonNode> replies = new ArrayList<>();
  private final List<JsonNode> events = new ArrayList<>();
  private @Nullable JsonNode greeting;
  private boolean closed;
  private int awaitedStatuses;

  private QmpConnection(SocketChannel channel, Supplier<String> peerStory) {
    this.channel = channel;
    this.peerStory = peerStory;
  }

  /**
   * Connects, waits for the greeting and negotiates.
   *
   * @param alive is asked between attempts: a peer that has ended will never listen
   * @param peerStory what the peer has written to its standard error, for messages
   */
  static QmpConnection open(Path socket, BooleanSupplier alive, Supplier<String> peerStory)
      throws IOException, InterruptedException, TimeoutException {
    return open(socket, alive, peerStory, List.of());
  }

  /** The same with capabilities of the protocol: {@code oob} is the only one there is. */
  static QmpConnection open(
      Path socket, BooleanSupplier alive, Supplier<String> peerStory, List<String> enable)
      throws IOException, InterruptedException, TimeoutException {
    long deadlineNanos = System.nanoTime() + PATIENCE.toNanos();
    SocketChannel channel = connect(socket, alive, peerStory, deadlineNanos);
    QmpConnection connection = new QmpConnection(channel, peerStory);
    Thread.ofPlatform().daemon().name("lab-qmp").start(connection::read);
    connection.await(() -> Optional.ofNullable(connection.greeting), "the greeting");
    connection.execute("qmp_capabilities", enable.isEmpty() ? Map.of() : Map.of("enable", enable));
    return connection;
  }

  /** Connects to a monitor that listens already, waits for the greeting and negotiates. */
  public static QmpConnection to(Path socket)
      throws IOException, InterruptedException, TimeoutException {
    return open(socket, () -> true, () -> "");
  }

  private static SocketChannel connect(
      Path socket, BooleanSupplier alive, Supplier<String> peerStory, long deadlineNanos)
      throws IOException, InterruptedException {
    while (true) {
      SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX);
      try {
        channel.connect(UnixDomainSocketAddress.of(socket));
        return channel;
      } catch (IOException notYet) {
        channel.close();
        if (!alive.getAsBoolean() || System.nanoTime() > deadlineNanos) {
          throw new IOException("nobody listens on " + socket + "\n" + peerStory.get(), notYet);
        }
        Thread.sleep(10);
      }
    }
  }

  /** Executes a command without arguments and returns its {@code return} member. */
  public JsonNode execute(String command) throws IOException, TimeoutException {
    return execute(command, Map.of());
  }

  /**
   * Executes a command and returns its {@code return} member.
   *
   * @throws QmpErrorReply if the reply is an error
   */
  public JsonNode execute(String command, Map<String, ?> arguments)
      throws IOException, TimeoutException {
    return execute("execute", command, arguments);
  }

  /** The same out of band, which a main loop that waits does not hold up. */
  public JsonNode executeOutOfBand(String command, Map<String, ?> arguments)
      throws IOException, TimeoutException {
    return execute("exec-oob", command, arguments);
  }

  private JsonNode execute(String how, String command, Map<String, ?> arguments)
      throws IOException, TimeoutException {
    ObjectNode message = JSON.createObjectNode().put(how, command);
    if (!arguments.isEmpty()) {
      message.set("arguments", JSON.valueToTree(arguments));
    }
    int seen;
    synchronized (lock) {
      seen = replies.size();
    }
    ByteBuffer bytes = ByteBuffer.wrap((message + "\n").getBytes(StandardCharsets.UTF_8));
    while (bytes.hasRemaining()) {
      channel.write(bytes);
    }
    JsonNode reply =
        await(
            () -> replies.size() > seen ? Optional.of(replies.get(seen)) : Optional.empty(),
            "the reply to " + message);
    if (reply.has("error")) {
      JsonNode error = reply.path("error");
      throw new QmpErrorReply(error.path("class").asString(), error.path("desc").asString());
    }
    return reply.path("return");
  }

  /** Switches migration capabilities on, and {@code events} with them. */
  public void enableCapabilities(Collection<String> capabilities)
      throws IOException, TimeoutException {
    List<Map<String, ?>> list =
        Stream.concat(Stream.of("events"), capabilities.stream())
            .map(name -> Map.<String, Object>of("capability", name, "state", true))
            .collect(Collectors.toList());
    execute("migrate-set-capabilities", Map.of("capabilities", list));
  }

  /**
   * Waits for a MIGRATION event with the status, among those after the one that was awaited last.
   *
   * @throws IOException also if the migration fails, with the reason
   */
  public void awaitMigration(String status) throws IOException, TimeoutException {
    String found =
        await(
            () -> {
              List<String> statuses = migrationStatuses();
              while (awaitedStatuses < statuses.size()) {
                String next = statuses.get(awaitedStatuses++);
                if (next.equals(status) || next.equals("failed")) {
                  return Optional.of(next);
                }
              }
              return Optional.empty();
            },
            "MIGRATION " + status);
    if (!found.equals(status)) {
      throw new IOException(
          "the migration failed: " + execute("query-migrate") + "\n" + peerStory.get());
    }
  }

  /** Whether an event of this name has come, for as long as there is patience. */
  public void awaitEvent(String name) throws IOException, TimeoutException {
    JsonNode _ =
        await(
            () ->
                events.stream()
                    .filter(event -> event.path("event").asString().equals(name))
                    .findFirst(),
            "the event " + name);
  }

  /** The statuses of all MIGRATION events so far, in order. */
  public List<String> migrationStatuses() {
    synchronized (lock) {
      return events.stream()
          .filter(event -> event.path("event").asString().equals("MIGRATION"))
          .map(event -> event.path("data").path("status").asString())
          .toList();
    }
  }

  private <T> T await(Supplier<Optional<T>> condition, String what)
      throws IOException, TimeoutException {
    long deadlineNanos = System.nanoTime() + PATIENCE.toNanos();
    synchronized (lock) {
      while (true) {
        Optional<T> result = condition.get();
        if (result.isPresent()) {
          return result.get();
        }
        if (closed) {
          throw new IOException(
              "the peer closed the connection before " + what + "\n" + peerStory.get());
        }
        long millis = (deadlineNanos - System.nanoTime()) / 1_000_000;
        if (millis <= 0) {
          throw new TimeoutException(
              what + " has not come in " + PATIENCE + "\n" + peerStory.get());
        }
        try {
          lock.wait(millis);
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
          throw new IOException("interrupted before " + what, e);
        }
      }
    }
  }

  private void read() {
    try (BufferedReader lines =
        new BufferedReader(
            new InputStreamReader(Channels.newInputStream(channel), StandardCharsets.UTF_8))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        JsonNode message = JSON.readTree(line);
        synchronized (lock) {
          if (message.has("QMP")) {
            greeting = message;
          } else if (message.has("event")) {
            events.add(message);
          } else {
            replies.add(message);
          }
          lock.notifyAll();
        }
      }
    } catch (IOException end) {
      // A reset is as good an end as the end of the stream.
    } finally {
      synchronized (lock) {
        closed = true;
        lock.notifyAll();
      }
    }
  }

  @Override
  public void close() throws IOException {
    channel.close();
  }
}
