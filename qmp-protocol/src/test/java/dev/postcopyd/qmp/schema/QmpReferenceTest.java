package dev.postcopyd.qmp.schema;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.qmp.qapi.QapiEnum;
import dev.postcopyd.qmp.qapi.QapiType;
import dev.postcopyd.qmp.qapi.ScalarType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/**
 * {@code docs/reference/qmp.md} is what the declarations say. Written anew with {@code
 * -Dpostcopyd.write-docs=true}.
 */
class QmpReferenceTest {
  private static final String HEAD =
      """
      # QMP commands and events

      What a client of postcopyd's own monitor may say (`--guest memory`, `uffd:`, `file:`, and, but for `object-add` and
      `object-del`, `stream:`); with `--guest qemu:` the rest goes to QEMU, and
      its answers come back. Names, types and texts are those of QEMU 10.0; what each command does here is in
      [the reference](README.md). A member in brackets may be left out. The types are at the end.

      This page is made from the declarations in `qmp.schema` (`QmpReferenceTest`): change them, not it.

      """;

  private final Map<String, String> types = new TreeMap<>();
  private final Deque<QapiType> toDescribe = new ArrayDeque<>();

  @Test
  void theReferenceIsWhatTheDeclarationsSay() throws IOException {
    Path file = Path.of("..", "docs", "reference", "qmp.md");
    String expected = reference();
    if (Boolean.getBoolean("postcopyd.write-docs")) {
      Files.writeString(file, expected);
    }
    assertThat(Files.readString(file)).isEqualTo(expected);
  }

  private String reference() {
    StringBuilder page = new StringBuilder(HEAD);
    page.append("## Commands\n| command | arguments | returns |\n|---|---|---|\n");
    for (CommandSpec<?, ?> command : QmpSchema.STANDARD.withObjects().commands()) {
      page.append(
          "| `%s`%s | %s | %s |\n"
              .formatted(
                  command.name(),
                  command.allowOob() ? " (also out of band)" : "",
                  members(command.argumentsType()),
                  isEmpty(command.resultType()) ? "" : name(command.resultType())));
    }
    page.append("\n## Events\n| event | data |\n|---|---|\n");
    for (EventSpec<?> event : QmpSchema.STANDARD.events()) {
      page.append("| `%s` | %s |\n".formatted(event.name(), members(event.dataType())));
    }
    while (!toDescribe.isEmpty()) {
      describe(toDescribe.removeFirst());
    }
    page.append("\n## Types\n| type | members or values |\n|---|---|\n");
    types.forEach((name, text) ->
        page.append("| <a id=\"%s\"></a>`%s` | %s |\n".formatted(name, name, text)));
    return page.toString();
  }

  private static boolean isEmpty(QapiType type) {
    return type instanceof QapiType.ObjectType object && object.members().isEmpty();
  }

  private void describe(QapiType type) {
    String name = javaName(type);
    if (types.containsKey(name)) {
      return;
    }
    types.put(name, "");
    types.put(
        name,
        switch (type) {
          case QapiType.EnumType constants ->
              constants.constants().stream()
                  .map(QapiEnum::wireName)
                  .map(value -> "`" + value + "`")
                  .collect(Collectors.joining(", "));
          case QapiType.StructType struct -> members(struct);
          case ScalarType _, QapiType.ArrayType _, QapiType.AlternateType _ ->
              throw new IllegalStateException("has no name: " + type);
        });
  }

  private String members(QapiType.StructType struct) {
    return switch (struct) {
      case QapiType.ObjectType object -> list(object.members());
      case QapiType.UnionType union ->
          list(union.common())
              + (union.common().isEmpty() ? "" : ", ")
              + "`"
              + union.tag()
              + "`: "
              + union.branches().entrySet().stream()
                  .map(branch -> "`" + branch.getKey() + "` (" + members(branch.getValue()) + ")")
                  .collect(Collectors.joining(" or "));
    };
  }

  private String list(List<QapiType.Member> members) {
    return members.stream()
        .map(member ->
            (member.optional() ? "[`%s`]: %s" : "`%s`: %s")
                .formatted(member.name(), name(member.type())))
        .collect(Collectors.joining(", "));
  }

  private String name(QapiType type) {
    return switch (type) {
      case ScalarType scalar -> scalar.schemaName();
      case QapiType.ArrayType array -> "list of " + name(array.element());
      case QapiType.AlternateType _ -> "str or null";
      case QapiType.EnumType _, QapiType.StructType _ -> {
        toDescribe.add(type);
        String name = javaName(type);
        yield "[" + name + "](#" + name + ")";
      }
    };
  }

  private static String javaName(QapiType type) {
    return switch (type) {
      case QapiType.EnumType constants -> constants.javaType().getSimpleName();
      case QapiType.StructType struct -> struct.javaType().getSimpleName();
      case ScalarType _, QapiType.ArrayType _, QapiType.AlternateType _ ->
          throw new IllegalStateException("has no name: " + type);
    };
  }
}
