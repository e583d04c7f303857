package dev.postcopyd.control;

import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.qapi.QapiEnum;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.QmpCommands;
import dev.postcopyd.qmp.schema.QmpEvents;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletionStage;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * What QEMU says of its commands and types, with what the daemon adds: migration states that this
 * QEMU does not have yet. Everything else is left as QEMU says it. Stateless.
 */
final class MonitorIntrospection {
  private MonitorIntrospection() {}

  static void register(CommandTable table, QemuMonitor monitor) {
    table.registerRaw(
        QmpCommands.QUERY_QMP_SCHEMA.name(), (command, _) -> querySchema(monitor, command));
  }

  private static CompletionStage<JsonNode> querySchema(QemuMonitor monitor, Command command) {
    return monitor
        .execute(command)
        .thenApply(schema -> {
          if (schema instanceof ArrayNode entities) {
            addStates(entities);
          }
          return schema;
        });
  }

  /** The states of loads are those of {@link MigrationStatus}, whatever QEMU's age. */
  static void addStates(ArrayNode entities) {
    Map<String, ObjectNode> byName = new HashMap<>();
    for (JsonNode entity : entities) {
      if (entity instanceof ObjectNode object) {
        byName.put(object.path("name").asString(""), object);
      }
    }
    JsonNode event = byName.get(QmpEvents.MIGRATION.name());
    JsonNode data = event == null ? null : byName.get(event.path("arg-type").asString(""));
    if (data == null) {
      return;
    }
    for (JsonNode member : data.path("members")) {
      ObjectNode type = byName.get(member.path("type").asString(""));
      if (member.path("name").asString("").equals("status") && type != null) {
        addMissing(type, Arrays.stream(MigrationStatus.values()).map(QapiEnum::wireName).toList());
      }
    }
  }

  private static void addMissing(ObjectNode enumeration, List<String> wanted) {
    if (!(enumeration.get("values") instanceof ArrayNode values)) {
      return;
    }
    Set<String> there = new TreeSet<>();
    values.forEach(value -> there.add(value.asString("")));
    for (String name : wanted) {
      if (there.add(name)) {
        values.add(name);
        if (enumeration.get("members") instanceof ArrayNode members) {
          members.addObject().put("name", name);
        }
      }
    }
  }
}
