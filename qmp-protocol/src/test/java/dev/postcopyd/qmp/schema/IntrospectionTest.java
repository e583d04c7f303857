package dev.postcopyd.qmp.schema;

import static java.util.Objects.requireNonNull;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.qmp.Transcript;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.Command;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;

/** Our {@code query-qmp-schema} against that of a real QEMU 10.0, type by type. */
class IntrospectionTest {
  private static final Command QUERY =
      new Command(null, "query-qmp-schema", QmpJson.object(), false);

  /** What we declare and QEMU 10.0 does not: QEMU 10.1 and 10.2 do. */
  private static final Set<String> NEWER_THAN_10_0 =
      Set.of(
          "postcopy-latency",
          "postcopy-latency-dist",
          "postcopy-vcpu-latency",
          "postcopy-non-vcpu-latency",
          "postcopy-device");

  private static Map<String, JsonNode> ours() {
    return byName(
        QmpCommands.QUERY_QMP_SCHEMA
            .success(QUERY, QmpSchema.STANDARD.querySchema())
            .returnValue());
  }

  private static Map<String, JsonNode> qemus() throws Exception {
    return byName(QmpJson.parse(Files.readString(Transcript.file("query-qmp-schema.json"))));
  }

  private static Map<String, JsonNode> byName(JsonNode schema) {
    Map<String, JsonNode> byName = new HashMap<>();
    for (JsonNode entity : schema) {
      assertThat(byName.put(entity.get("name").stringValue(), entity)).isNull();
    }
    return byName;
  }

  static Stream<String> commandsAndEvents() {
    return Stream.concat(
        QmpSchema.STANDARD.commands().stream().map(CommandSpec::name),
        QmpSchema.STANDARD.events().stream().map(EventSpec::name));
  }

  @ParameterizedTest
  @MethodSource("commandsAndEvents")
  void isDeclaredAsInQemu(String name) throws Exception {
    Shape ours = new Shape(ours(), NEWER_THAN_10_0);
    Shape qemus = new Shape(qemus(), Set.of());
    assertThat(ours.of(name)).isEqualTo(qemus.of(name));
  }

  @Test
  void whatWeAddIsThere() {
    String everything =
        QmpJson.write(
            QmpCommands.QUERY_QMP_SCHEMA
                .success(QUERY, QmpSchema.STANDARD.querySchema())
                .returnValue());
    assertThat(NEWER_THAN_10_0)
        .allSatisfy(name -> assertThat(everything).contains("\"" + name + "\""));
  }

  @Test
  void hasQemusFormOfNames() throws Exception {
    Map<String, JsonNode> ours = ours();
    assertThat(ours).containsKey("0");
    assertThat(QmpJson.write(requireNonNull(ours.get("0"))))
        .isEqualTo("{\"meta-type\": \"object\", \"name\": \"0\", \"members\": []}");
    assertThat(ours.keySet()).contains("[str]", "str", "int", "null", "migrate", "MIGRATION");
    List<String> types =
        ours.keySet().stream()
            .filter(name -> !Set.copyOf(commandsAndEvents().toList()).contains(name))
            .toList();
    assertThat(types).allMatch(name -> name.matches("\\[?(\\d+|str|int|number|bool|null|any)]?"));
    for (JsonNode entity : ours.values()) {
      for (String reference : List.of("arg-type", "ret-type", "element-type")) {
        if (entity.has(reference)) {
          assertThat(ours).containsKey(entity.get(reference).stringValue());
        }
      }
    }
  }

  @Test
  void ourOwnCommandsJoin() {
    CommandSpec<NoArguments, StatusInfo> own =
        CommandSpec.of("__dev.postcopyd_test", NoArguments.class, StatusInfo.class);
    QmpSchema schema = QmpSchema.STANDARD.with(List.of(own));
    assertThat(schema.queryCommands()).contains(new CommandInfo("__dev.postcopyd_test"));
    assertThat(QmpSchema.STANDARD.queryCommands())
        .hasSize(29)
        .doesNotContain(new CommandInfo("__dev.postcopyd_test"));
  }

  /** A type written out with everything that it leads to, without the numbers that name types. */
  private record Shape(Map<String, JsonNode> schema, Set<String> leftOut) {
    Object of(String name) {
      JsonNode entity = requireNonNull(schema.get(name), name);
      Map<String, Object> shape = new TreeMap<>();
      for (Map.Entry<String, JsonNode> property : entity.properties()) {
        JsonNode value = property.getValue();
        switch (property.getKey()) {
          case "name" -> {}
          case "features" -> {
            if (!name.equals("human-monitor-command")) {
              shape.put("features", value.toString());
            }
            // Else it is a promise about savevm, a command of the human monitor that we do not
            // have.
          }
          case "arg-type", "ret-type", "element-type" ->
              shape.put(property.getKey(), of(value.stringValue()));
          case "members", "variants", "values" ->
              shape.put(property.getKey(), members(property.getKey(), value));
          default -> shape.put(property.getKey(), value.toString());
        }
      }
      if (!entity.get("meta-type").stringValue().matches("object|array|alternate|enum")) {
        shape.put("name", name);
      }
      return shape;
    }

    /** The order of members means nothing to a client, that of an enum's values neither. */
    private Object members(String kind, JsonNode members) {
      Map<String, Object> byName = new TreeMap<>();
      for (JsonNode member : members) {
        String key = kind.equals("values") ? member.stringValue() : key(member);
        if (leftOut.contains(key)) {
          continue;
        }
        List<Object> description = new ArrayList<>();
        for (String property : List.of("default", "features")) {
          description.add(member.has(property) ? property + "=" + member.get(property) : "");
        }
        if (member.isObject() && member.has("type")) {
          description.add(of(member.get("type").stringValue()));
        }
        assertThat(byName.put(key, description)).as(key).isNull();
      }
      return byName;
    }

    private static String key(JsonNode member) {
      for (String property : List.of("name", "case", "type")) {
        if (member.has(property)) {
          return member.get(property).stringValue();
        }
      }
      throw new AssertionError("nameless: " + member);
    }
  }
}
