package dev.postcopyd.cli;

import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.net.SocketAddress;
import java.time.Duration;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/** A QMP client whose conversation is shown as it goes on. Used by one thread. */
final class DemoConversation implements AutoCloseable {
  private final QmpClient client;
  private final Duration patience;
  private final DemoReport report;

  private DemoConversation(QmpClient client, Duration patience, DemoReport report) {
    this.client = client;
    this.patience = patience;
    this.report = report;
  }

  /** Connects and negotiates. */
  static DemoConversation open(SocketAddress address, Duration patience, DemoReport report)
      throws IOException, QmpException {
    QmpClient client = QmpClient.connectAndNegotiate(address, patience);
    return new DemoConversation(client, patience, report);
  }

  JsonNode execute(String command, ObjectNode arguments) throws IOException, QmpException {
    ObjectNode request = QmpJson.object().put("execute", command);
    if (!arguments.isEmpty()) {
      request.set("arguments", arguments);
    }
    report.sent(QmpJson.write(request));
    try {
      JsonNode result = client.execute(command, arguments);
      showEvents();
      report.received(QmpJson.write(QmpJson.object().set("return", result)));
      return result;
    } catch (QmpException e) {
      showEvents();
      report.received(
          QmpJson.write(
              QmpJson.object()
                  .set(
                      "error",
                      QmpJson.object()
                          .put("class", e.errorClass().wireName())
                          .put("desc", e.description()))));
      throw e;
    }
  }

  /** Events come before the answer to the command that caused them. */
  private void showEvents() throws IOException {
    Event event;
    while ((event = client.nextEvent(Duration.ZERO)) != null) {
      show(event);
    }
  }

  /** Waits for the next event of a migration and returns its status. */
  String awaitStatus() throws IOException {
    Event event = client.awaitEvent(any -> any.name().equals("MIGRATION"), patience);
    show(event);
    return status(event);
  }

  private void show(Event event) {
    ObjectNode shown = QmpJson.object().put("event", event.name());
    if (event.data() != null) {
      shown.set("data", event.data());
    }
    report.received(QmpJson.write(shown));
    if (event.name().equals("MIGRATION")) {
      report.entered(status(event), event.timestamp());
    }
  }

  private static String status(Event event) {
    ObjectNode data = event.data();
    return data == null ? "" : data.path("status").asString("");
  }

  @Override
  public void close() {
    client.close();
  }
}
