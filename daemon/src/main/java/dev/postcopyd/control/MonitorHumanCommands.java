package dev.postcopyd.control;

import dev.postcopyd.control.HmpArguments.UsageException;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.QmpCommands;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.databind.node.StringNode;

/**
 * {@code human-monitor-command} where a QEMU is behind the daemon: QEMU's, but for the lines about
 * migration that would go behind the daemon's back. Those become the QMP commands that they stand
 * for; a line that is not understood is QEMU's to refuse.
 */
final class MonitorHumanCommands {
  private static final String COMMAND_LINE = "command-line";

  private final MonitorMigrationCommands migrations;
  private final MonitorDescriptors descriptors;

  MonitorHumanCommands(MonitorMigrationCommands migrations, MonitorDescriptors descriptors) {
    this.migrations = migrations;
    this.descriptors = descriptors;
  }

  void register(CommandTable table) {
    table.registerRaw(QmpCommands.HUMAN_MONITOR_COMMAND.name(), this::handle);
  }

  private CompletionStage<JsonNode> handle(Command command, CommandContext context)
      throws QmpException {
    JsonNode line = command.arguments().path(COMMAND_LINE);
    if (!line.isString() || command.outOfBand()) {
      return descriptors.pass(command, context);
    }
    CompletionStage<JsonNode> own;
    try {
      own = own(command, new HmpArguments(line.stringValue()), context);
    } catch (UsageException e) {
      own = null;
    } catch (QmpException e) {
      own = CompletableFuture.failedStage(e);
    }
    return own == null ? descriptors.pass(command, context) : asText(own);
  }

  /** What the line comes to if it is ours; null if it is QEMU's. */
  private @Nullable CompletionStage<JsonNode> own(
      Command command, HmpArguments words, CommandContext context)
      throws QmpException, UsageException {
    String name = words.bareWord();
    return switch (name) {
      case "migrate_set_capability" -> {
        ObjectNode arguments = QmpJson.object();
        arguments
            .putArray("capabilities")
            .addObject()
            .put("capability", words.word(name))
            .put("state", words.onOff(name));
        words.end(name);
        yield migrations.setCapabilities(
            qmp(QmpCommands.MIGRATE_SET_CAPABILITIES.name(), arguments), context);
      }
      case "migrate_incoming" -> {
        ObjectNode arguments = QmpJson.object().put("uri", words.word(name));
        words.end(name);
        yield migrations.migrateIncoming(
            qmp(QmpCommands.MIGRATE_INCOMING.name(), arguments), context);
      }
      case "migrate" -> {
        String rest = words.rest();
        yield migrations.migrate(command, context, rest.contains("file:"));
      }
      case "migrate_cancel" ->
          migrations.isLoading()
              ? migrations.cancel(qmp(QmpCommands.MIGRATE_CANCEL.name(), QmpJson.object()), context)
              : null;
      case "migrate_pause", "migrate_recover", "migrate_start_postcopy", "migrate_continue" -> {
        migrations.requireNoLoad(command);
        yield null;
      }
      case "migrate_set_parameter" ->
          descriptors
              .pass(command, context)
              .thenApply(answer -> {
                migrations.readParameters();
                return answer;
              });
      case "info" -> info(words, context);
      default -> null;
    };
  }

  private @Nullable CompletionStage<JsonNode> info(HmpArguments words, CommandContext context)
      throws QmpException {
    return switch (words.bareWord()) {
      case "migrate" ->
          migrations.isOurs()
              ? CompletableFuture.completedStage(
                  StringNode.valueOf(HmpInfo.migration(migrations.ownInfo())))
              : null;
      case "migrate_capabilities" ->
          migrations
              .queryCapabilities(
                  qmp(QmpCommands.QUERY_MIGRATE_CAPABILITIES.name(), QmpJson.object()), context)
              .thenApply(MonitorHumanCommands::onAndOff);
      default -> null;
    };
  }

  private static JsonNode onAndOff(JsonNode list) {
    StringBuilder text = new StringBuilder();
    for (JsonNode entry : list) {
      text.append(entry.path("capability").asString(""))
          .append(entry.path("state").asBoolean(false) ? ": on\n" : ": off\n");
    }
    return StringNode.valueOf(text.toString());
  }

  private static Command qmp(String name, ObjectNode arguments) {
    return new Command(null, name, arguments, false);
  }

  /** A line's answer is text whatever happens, and its lines end with CRLF. */
  private static CompletionStage<JsonNode> asText(CompletionStage<JsonNode> answer) {
    return answer.handle((value, failure) -> {
      Throwable cause = failure instanceof CompletionException ? failure.getCause() : failure;
      String text;
      if (cause == null) {
        text = value != null && value.isString() ? value.stringValue() : "";
      } else if (cause instanceof QmpException refusal) {
        text = "Error: " + refusal.description() + "\n";
      } else {
        text = "Error: " + cause.getMessage() + "\n";
      }
      return StringNode.valueOf(text.replace("\r\n", "\n").replace("\n", "\r\n"));
    });
  }
}
