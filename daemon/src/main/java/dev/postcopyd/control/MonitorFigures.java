package dev.postcopyd.control;

import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.schema.QmpCommands;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * QEMU's figures of a load of the daemon's: how long vCPUs waited is measured by QEMU, in places
 * that the daemon does not see. Nothing of it waits.
 */
final class MonitorFigures {
  /** So long their asker waits; a QEMU that stands in a fault answers later. */
  private static final int PATIENCE_MILLIS = 250;

  private static final String POSTCOPY = "postcopy-";

  private final QemuMonitor monitor;

  /** What QEMU has left without an answer for too long; asked again when that has come. */
  private volatile CompletableFuture<JsonNode> overdue =
      CompletableFuture.completedFuture(QmpJson.object());

  MonitorFigures(QemuMonitor monitor) {
    this.monitor = monitor;
  }

  /** Completes with the daemon's own answer to query-migrate, and what QEMU adds to it. */
  CompletionStage<JsonNode> addTo(ObjectNode own) {
    if (!overdue.isDone()) {
      return CompletableFuture.completedStage(own);
    }
    String command = QmpCommands.QUERY_MIGRATE.name();
    CompletableFuture<JsonNode> answer =
        monitor.execute(new Command(null, command, QmpJson.object(), false));
    return answer
        .copy()
        .completeOnTimeout(QmpJson.object(), PATIENCE_MILLIS, TimeUnit.MILLISECONDS)
        .exceptionally(_ -> QmpJson.object())
        .thenApply(figures -> {
          if (!answer.isDone()) {
            overdue = answer;
          }
          return merge(own, figures);
        });
  }

  private static JsonNode merge(ObjectNode own, JsonNode qemu) {
    for (Map.Entry<String, JsonNode> member : qemu.properties()) {
      if (member.getKey().startsWith(POSTCOPY)) {
        own.set(member.getKey(), member.getValue());
      }
    }
    return own;
  }
}
