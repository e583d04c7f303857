package dev.postcopyd.qmp.qapi;

import dev.postcopyd.qmp.qapi.QapiType.AlternateType;
import dev.postcopyd.qmp.qapi.QapiType.ArrayType;
import dev.postcopyd.qmp.qapi.QapiType.EnumType;
import dev.postcopyd.qmp.qapi.QapiType.Member;
import dev.postcopyd.qmp.qapi.QapiType.ObjectType;
import dev.postcopyd.qmp.qapi.QapiType.StructType;
import dev.postcopyd.qmp.qapi.QapiType.UnionType;
import java.math.BigInteger;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/** Writes Java values of schema types as JSON; absent members are left out. Stateless. */
public final class OutputVisitor {
  private static final JsonNodeFactory NODES = JsonNodeFactory.instance;

  private OutputVisitor() {}

  /** The object that a record, or a branch of a union, is. */
  public static ObjectNode object(Class<?> javaType, Object value) {
    ObjectNode json = NODES.objectNode();
    members(QapiTypes.struct(javaType), value, json);
    return json;
  }

  /** A value of this type. */
  public static JsonNode visit(QapiType type, @Nullable Object value) {
    if (value == null) {
      throw new IllegalStateException("no value of " + type);
    }
    return switch (type) {
      case ScalarType scalar -> scalar(scalar, value);
      case EnumType _ -> NODES.stringNode(((QapiEnum) value).wireName());
      case ArrayType(QapiType element) -> {
        ArrayNode array = NODES.arrayNode();
        for (Object item : (List<?>) value) {
          array.add(visit(element, item));
        }
        yield array;
      }
      case AlternateType.STRING_OR_NULL -> {
        String string = ((StringOrNull) value).value();
        yield string == null ? NODES.nullNode() : NODES.stringNode(string);
      }
      case StructType struct -> object(struct.javaType(), value);
    };
  }

  private static JsonNode scalar(ScalarType type, Object value) {
    return switch (type) {
      case STR -> NODES.stringNode((String) value);
      case BOOL -> NODES.booleanNode((Boolean) value);
      case NUMBER -> NODES.numberNode((Double) value);
      case NULL -> NODES.nullNode();
      case ANY -> ((AnyValue) value).value();
      case INT64, UINT8, UINT16, UINT32 -> NODES.numberNode((Long) value);
      case UINT64 -> {
        long bits = (Long) value;
        yield bits >= 0
            ? NODES.numberNode(bits)
            : NODES.numberNode(new BigInteger(Long.toUnsignedString(bits)));
      }
    };
  }

  private static void members(StructType type, Object value, ObjectNode json) {
    switch (type) {
      case ObjectType object -> object.components().forEach(member -> put(member, value, json));
      case UnionType union -> {
        for (Map.Entry<String, StructType> branch : union.branches().entrySet()) {
          if (branch.getValue().javaType().isInstance(value)) {
            json.put(union.tag(), branch.getKey());
            members(branch.getValue(), value, json);
            return;
          }
        }
        throw new IllegalStateException("no branch of " + union.javaType() + ": " + value);
      }
    }
  }

  private static void put(Member member, Object holder, ObjectNode json) {
    Object value;
    try {
      value = member.accessor().invoke(holder);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException("cannot read " + member.accessor(), e);
    }
    if (value != null) {
      json.set(member.name(), visit(member.type(), value));
    } else if (!member.optional()) {
      throw new IllegalStateException("member is required: " + member.accessor());
    }
  }
}
