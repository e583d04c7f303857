package dev.postcopyd.qmp.qapi;

import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.qapi.QapiType.AlternateType;
import dev.postcopyd.qmp.qapi.QapiType.ArrayType;
import dev.postcopyd.qmp.qapi.QapiType.EnumType;
import dev.postcopyd.qmp.qapi.QapiType.Member;
import dev.postcopyd.qmp.qapi.QapiType.ObjectType;
import dev.postcopyd.qmp.qapi.QapiType.StructType;
import dev.postcopyd.qmp.qapi.QapiType.UnionType;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/**
 * Checks JSON from a client against a type and builds the Java value, refusing in QEMU's words.
 *
 * <p>Members are visited in the order of their declaration, and what is left over is unexpected; so
 * of several mistakes the same one is named as by QEMU 10.0, except among several unexpected
 * members. Most texts name a member by its path ({@code channels[0].addr.path}), but those on
 * values of enums and on the range of small integers by its bare name, and an element of a list
 * then as {@code null}; that too is QEMU's. Stateless.
 */
public final class InputVisitor {
  private static final BigInteger TWO_TO_64 = BigInteger.ONE.shiftLeft(Long.SIZE);

  private InputVisitor() {}

  /**
   * Reads the arguments of a command.
   *
   * @throws QmpException if they are not what {@code javaType} says
   */
  public static <T> T arguments(Class<T> javaType, JsonNode arguments) throws QmpException {
    return javaType.cast(struct(QapiTypes.struct(javaType), new Place("", null), arguments));
  }

  /**
   * Where in the arguments the visitor is.
   *
   * @param path from the arguments down
   * @param name the member's own name, null for an element of a list
   */
  private record Place(String path, @Nullable String name) {
    Place member(String member) {
      return new Place(path.isEmpty() ? member : path + "." + member, member);
    }

    Place element(int index) {
      return new Place(path + "[" + index + "]", null);
    }

    QmpException wrongType(String expected) {
      return new QmpException("Invalid parameter type for '" + path + "', expected: " + expected);
    }
  }

  private static Object visit(QapiType type, Place place, JsonNode value) throws QmpException {
    return switch (type) {
      case ScalarType scalar -> scalar(scalar, place, value);
      case EnumType enumType -> enumValue(enumType, place, value);
      case ArrayType(QapiType element) -> array(element, place, value);
      case AlternateType.STRING_OR_NULL -> stringOrNull(place, value);
      case StructType struct -> struct(struct, place, value);
    };
  }

  private static Object scalar(ScalarType type, Place place, JsonNode value) throws QmpException {
    return switch (type) {
      case STR -> {
        require(value.isString(), place, "string");
        yield value.stringValue();
      }
      case BOOL -> {
        require(value.isBoolean(), place, "boolean");
        yield value.booleanValue();
      }
      case NUMBER -> {
        require(value.isNumber(), place, "number");
        yield value.doubleValue();
      }
      case NULL -> {
        require(value.isNull(), place, "null");
        yield value;
      }
      case ANY -> new AnyValue(value);
      case INT64 -> {
        require(value.isIntegralNumber() && value.canConvertToLong(), place, "integer");
        yield value.longValue();
      }
      case UINT64 -> unsigned(place, value);
      case UINT8 -> unsigned(place, value, 8);
      case UINT16 -> unsigned(place, value, 16);
      case UINT32 -> unsigned(place, value, 32);
    };
  }

  /** All 64 bits; a negative number stands for the unsigned one of the same bits, as in QEMU. */
  private static long unsigned(Place place, JsonNode value) throws QmpException {
    if (!value.isIntegralNumber() || value.bigIntegerValue().compareTo(TWO_TO_64) >= 0) {
      throw new QmpException("Parameter '" + place.path() + "' expects uint64");
    }
    return value.bigIntegerValue().longValue();
  }

  private static long unsigned(Place place, JsonNode value, int bits) throws QmpException {
    long number = unsigned(place, value);
    if (number >>> bits != 0) {
      throw new QmpException("Parameter '" + place.name() + "' expects uint" + bits + "_t");
    }
    return number;
  }

  private static QapiEnum enumValue(EnumType type, Place place, JsonNode value)
      throws QmpException {
    require(value.isString(), place, "string");
    QapiEnum constant = type.ofWireName(value.stringValue());
    if (constant == null) {
      throw new QmpException(
          "Parameter '" + place.name() + "' does not accept value '" + value.stringValue() + "'");
    }
    return constant;
  }

  private static List<Object> array(QapiType element, Place place, JsonNode value)
      throws QmpException {
    require(value.isArray(), place, "array");
    List<Object> elements = new ArrayList<>(value.size());
    int index = 0;
    for (JsonNode item : value) {
      elements.add(visit(element, place.element(index++), item));
    }
    return List.copyOf(elements);
  }

  private static StringOrNull stringOrNull(Place place, JsonNode value) throws QmpException {
    require(value.isString() || value.isNull(), place, "StrOrNull");
    return new StringOrNull(value.isString() ? value.stringValue() : null);
  }

  private static Object struct(StructType type, Place place, JsonNode value) throws QmpException {
    require(value.isObject(), place, "object");
    Map<String, @Nullable Object> visited = new HashMap<>();
    ObjectType object = members(type, place, value, visited);
    for (String name : value.propertyNames()) {
      if (!visited.containsKey(name)) {
        throw new QmpException("Parameter '" + place.member(name).path() + "' is unexpected");
      }
    }
    List<Member> components = object.components();
    @Nullable Object[] arguments = new @Nullable Object[components.size()];
    for (int i = 0; i < arguments.length; i++) {
      arguments[i] = visited.get(components.get(i).name());
    }
    try {
      return object.constructor().newInstance(arguments);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException("cannot build " + object.javaType().getName(), e);
    }
  }

  /** Visits all members and says which record they make. */
  private static ObjectType members(
      StructType type, Place place, JsonNode value, Map<String, @Nullable Object> visited)
      throws QmpException {
    return switch (type) {
      case ObjectType object -> {
        visitAll(object.members(), place, value, visited);
        yield object;
      }
      case UnionType union -> {
        visitAll(union.common(), place, value, visited);
        JsonNode tag = value.get(union.tag());
        Place tagPlace = place.member(union.tag());
        if (tag == null) {
          throw missing(tagPlace);
        }
        String branch = enumValue(union.tagType(), tagPlace, tag).wireName();
        visited.put(union.tag(), null);
        StructType branchType = union.branches().get(branch);
        if (branchType == null) {
          throw new IllegalStateException("no branch for " + branch + " in " + union.javaType());
        }
        yield members(branchType, place, value, visited);
      }
    };
  }

  private static void visitAll(
      List<Member> members, Place place, JsonNode value, Map<String, @Nullable Object> visited)
      throws QmpException {
    for (Member member : members) {
      JsonNode given = value.get(member.name());
      Place memberPlace = place.member(member.name());
      if (given != null) {
        visited.put(member.name(), visit(member.type(), memberPlace, given));
      } else if (!member.optional()) {
        throw missing(memberPlace);
      }
    }
  }

  private static QmpException missing(Place place) {
    return new QmpException("Parameter '" + place.path() + "' is missing");
  }

  private static void require(boolean holds, Place place, String expected) throws QmpException {
    if (!holds) {
      throw place.wrongType(expected);
    }
  }
}
