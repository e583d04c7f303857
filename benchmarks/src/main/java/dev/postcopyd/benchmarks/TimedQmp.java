package dev.postcopyd.benchmarks;

import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * A conversation with QEMU's monitor or the daemon's, in which each event is noted with the time at
 * which it came here. Commands are executed by one thread; another one takes the events.
 */
final class TimedQmp implements AutoCloseable {
  private static final Duration PATIENCE = Duration.ofSeconds(60);
  private static final long POLL_MILLIS = 2;

  private record Noted(Event event, long nanos) {}

  private final QmpClient client;
  private final Object lock = new Object();
  private final List<Noted> events = new ArrayList<>();
  private @Nullable String end;

  private TimedQmp(QmpClient client) {
    this.client = client;
  }

  /** Connects as soon as the process listens, and negotiates. */
  static TimedQmp connect(Path socket, MeasuredProcess process) throws IOException {
    long deadlineNanos = System.nanoTime() + PATIENCE.toNanos();
    while (true) {
      try {
        QmpClient client =
            QmpClient.connectAndNegotiate(UnixDomainSocketAddress.of(socket), PATIENCE);
        TimedQmp qmp = new TimedQmp(client);
        Thread.ofPlatform().daemon().name("events").start(qmp::note);
        return qmp;
      } catch (IOException e) {
        if (!process.isAlive() || System.nanoTime() > deadlineNanos) {
          throw e;
        }
      }
      Settling.sleep(POLL_MILLIS);
    }
  }

  private void note() {
    String reason;
    try {
      while (true) {
        Event event = client.nextEvent(PATIENCE);
        long nowNanos = System.nanoTime();
        if (event != null) {
          synchronized (lock) {
            events.add(new Noted(event, nowNanos));
            lock.notifyAll();
          }
        }
      }
    } catch (IOException e) {
      reason = String.valueOf(e.getMessage());
    }
    synchronized (lock) {
      end = reason;
      lock.notifyAll();
    }
  }

  JsonNode execute(String command) throws IOException {
    return execute(command, QmpJson.object());
  }

  JsonNode execute(String command, ObjectNode arguments) throws IOException {
    try {
      return client.execute(command, arguments);
    } catch (QmpException e) {
      throw new IOException(command + ": " + e.description(), e);
    }
  }

  /** Switches migration capabilities on. */
  void enable(String... capabilities) throws IOException {
    ObjectNode arguments = QmpJson.object();
    ArrayNode list = arguments.putArray("capabilities");
    for (String capability : capabilities) {
      list.addObject().put("capability", capability).put("state", true);
    }
    JsonNode _ = execute("migrate-set-capabilities", arguments);
  }

  /** Switches a migration capability off. */
  void disable(String capability) throws IOException {
    ObjectNode arguments = QmpJson.object();
    arguments
        .putArray("capabilities")
        .addObject()
        .put("capability", capability)
        .put("state", false);
    JsonNode _ = execute("migrate-set-capabilities", arguments);
  }

  /** What has come so far is of no interest any more. */
  void forgetEvents() {
    synchronized (lock) {
      events.clear();
    }
  }

  void setParameter(String name, long value) throws IOException {
    JsonNode _ = execute("migrate-set-parameters", QmpJson.object().put(name, value));
  }

  void migrateIncoming(String uri) throws IOException {
    JsonNode _ = execute("migrate-incoming", QmpJson.object().put("uri", uri));
  }

  /** Waits for the event, and answers when it came; one that has come already will do. */
  long awaitEvent(String name) throws IOException {
    return await(name, null);
  }

  /** Waits until the migration has got to this status, and answers when. */
  long awaitStatus(String status) throws IOException {
    return await("MIGRATION", status);
  }

  private long await(String name, @Nullable String status) throws IOException {
    long deadlineNanos = System.nanoTime() + PATIENCE.toNanos();
    String wanted = status == null ? name : name + " " + status;
    synchronized (lock) {
      for (int seen = 0; ; ) {
        for (; seen < events.size(); seen++) {
          Noted noted = events.get(seen);
          String found = statusOf(noted.event);
          if (noted.event.name().equals(name) && (status == null || status.equals(found))) {
            return noted.nanos;
          }
          if (found.equals("failed") || found.equals("postcopy-paused")) {
            String reason = execute("query-migrate").path("error-desc").asString("no reason given");
            throw new IOException(wanted + " will not come: " + found + ", " + reason);
          }
        }
        long millis = TimeUnit.NANOSECONDS.toMillis(deadlineNanos - System.nanoTime());
        if (end != null || millis <= 0) {
          throw new IOException(wanted + " has not come: " + (end == null ? "too late" : end));
        }
        try {
          lock.wait(millis);
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
          throw new IOException("interrupted", e);
        }
      }
    }
  }

  private static String statusOf(Event event) {
    ObjectNode data = event.data();
    return event.name().equals("MIGRATION") && data != null ? data.path("status").asString("") : "";
  }

  @Override
  public void close() {
    client.close();
  }
}
