package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.AnyValue;
import dev.postcopyd.qmp.qapi.QapiEnum;
import dev.postcopyd.qmp.qapi.QapiType;
import dev.postcopyd.qmp.qapi.QapiType.AlternateType;
import dev.postcopyd.qmp.qapi.QapiType.ArrayType;
import dev.postcopyd.qmp.qapi.QapiType.EnumType;
import dev.postcopyd.qmp.qapi.QapiType.Member;
import dev.postcopyd.qmp.qapi.QapiType.ObjectType;
import dev.postcopyd.qmp.qapi.QapiType.StructType;
import dev.postcopyd.qmp.qapi.QapiType.UnionType;
import dev.postcopyd.qmp.qapi.ScalarType;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.NullNode;

/**
 * Describes a schema as {@code query-qmp-schema} does: commands and events by name, types by opaque
 * numbers, so that nobody relies on what a type is called. The empty object is {@code 0}, an array
 * of type N is {@code [N]}. One use each.
 */
final class SchemaIntrospection {
  private static final String EMPTY_OBJECT = "0";

  private final List<SchemaInfo> entities = new ArrayList<>();
  private final List<SchemaInfo> types = new ArrayList<>();
  private final Map<Object, String> names = new HashMap<>();
  private int nextNumber = 1;

  List<SchemaInfo> describe(QmpSchema schema) {
    types.add(new SchemaInfo.Struct(EMPTY_OBJECT, null, List.of(), null, null));
    for (CommandSpec<?, ?> command : schema.commands()) {
      entities.add(
          new SchemaInfo.Command(
              command.name(),
              null,
              name(command.argumentsType()),
              name(command.resultType()),
              command.allowOob() ? true : null));
    }
    for (EventSpec<?> event : schema.events()) {
      entities.add(new SchemaInfo.Event(event.name(), null, name(event.dataType())));
    }
    entities.addAll(types);
    return List.copyOf(entities);
  }

  /** The type's name; describes the type if nothing has named it yet. */
  private String name(QapiType type) {
    if (isEmptyObject(type)) {
      return EMPTY_OBJECT;
    }
    Object key = key(type);
    String known = names.get(key);
    if (known != null) {
      return known;
    }
    String name =
        switch (type) {
          case ScalarType scalar -> scalar.schemaName();
          case ArrayType(QapiType element) -> "[" + name(element) + "]";
          case EnumType _, AlternateType _, StructType _ -> Integer.toString(nextNumber++);
        };
    names.put(key, name);
    types.add(describe(type, name));
    return name;
  }

  private SchemaInfo describe(QapiType type, String name) {
    return switch (type) {
      case ScalarType scalar -> new SchemaInfo.Builtin(name, null, jsonType(scalar));
      case EnumType(Class<?> _, List<? extends QapiEnum> constants) ->
          new SchemaInfo.Enumeration(
              name,
              null,
              constants.stream()
                  .map(constant ->
                      new SchemaInfo.EnumMember(constant.wireName(), orAbsent(constant.features())))
                  .toList(),
              constants.stream().map(QapiEnum::wireName).toList());
      case ArrayType(QapiType element) -> new SchemaInfo.Array(name, null, name(element));
      case AlternateType.STRING_OR_NULL ->
          new SchemaInfo.Alternate(
              name,
              null,
              List.of(
                  new SchemaInfo.AlternateMember(name(ScalarType.STR)),
                  new SchemaInfo.AlternateMember(name(ScalarType.NULL))));
      case ObjectType object ->
          new SchemaInfo.Struct(name, null, members(object.members()), null, null);
      case UnionType union -> {
        List<SchemaInfo.ObjectMember> members = new ArrayList<>(members(union.common()));
        members.add(new SchemaInfo.ObjectMember(union.tag(), name(union.tagType()), null, null));
        List<SchemaInfo.ObjectVariant> variants = new ArrayList<>();
        for (Map.Entry<String, StructType> branch : union.branches().entrySet()) {
          variants.add(new SchemaInfo.ObjectVariant(branch.getKey(), name(branch.getValue())));
        }
        yield new SchemaInfo.Struct(name, null, members, union.tag(), variants);
      }
    };
  }

  private List<SchemaInfo.ObjectMember> members(List<Member> members) {
    List<SchemaInfo.ObjectMember> described = new ArrayList<>();
    for (Member member : members) {
      described.add(
          new SchemaInfo.ObjectMember(
              member.name(),
              name(member.type()),
              member.optional() ? new AnyValue(NullNode.instance) : null,
              orAbsent(member.features())));
    }
    return described;
  }

  private static JsonType jsonType(ScalarType scalar) {
    for (JsonType type : JsonType.values()) {
      if (type.wireName().equals(scalar.jsonType())) {
        return type;
      }
    }
    throw new IllegalStateException("no JSON type: " + scalar);
  }

  /** All integers are one type to a client, and a Java type is one type wherever it is used. */
  private static Object key(QapiType type) {
    return switch (type) {
      case ScalarType scalar -> scalar.schemaName();
      case ArrayType(QapiType element) -> List.of(key(element));
      case EnumType enumType -> enumType.javaType();
      case AlternateType alternate -> alternate;
      case StructType struct -> struct.javaType();
    };
  }

  private static boolean isEmptyObject(QapiType type) {
    return type instanceof ObjectType object && object.members().isEmpty();
  }

  private static @Nullable List<String> orAbsent(List<String> features) {
    return features.isEmpty() ? null : features;
  }
}
