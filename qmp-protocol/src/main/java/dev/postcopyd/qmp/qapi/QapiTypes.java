package dev.postcopyd.qmp.qapi;

import dev.postcopyd.qmp.qapi.QapiType.ArrayType;
import dev.postcopyd.qmp.qapi.QapiType.EnumType;
import dev.postcopyd.qmp.qapi.QapiType.Member;
import dev.postcopyd.qmp.qapi.QapiType.ObjectType;
import dev.postcopyd.qmp.qapi.QapiType.StructType;
import dev.postcopyd.qmp.qapi.QapiType.UnionType;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;

/**
 * Reads the schema off Java types, each type once.
 *
 * <p>A type that does not follow the rules of this package is a bug and throws {@link
 * IllegalStateException} with its name. Thread-safe.
 */
public final class QapiTypes {
  private static final Map<Class<?>, StructType> STRUCTS = new ConcurrentHashMap<>();
  private static final Map<Class<?>, EnumType> ENUMS = new ConcurrentHashMap<>();

  private QapiTypes() {}

  /** The struct that this record or union is. */
  public static StructType struct(Class<?> javaType) {
    StructType known = STRUCTS.get(javaType);
    if (known == null) {
      known = javaType.isRecord() ? object(javaType, 0) : union(javaType);
      STRUCTS.put(javaType, known);
    }
    return known;
  }

  /** The type that this Java type is, without the annotations that only a member can have. */
  public static QapiType of(Type javaType) {
    return of(javaType, ScalarType.INT64);
  }

  private static QapiType of(Type javaType, ScalarType integer) {
    if (javaType instanceof ParameterizedType generic && generic.getRawType() == List.class) {
      return new ArrayType(of(generic.getActualTypeArguments()[0], integer));
    }
    if (!(javaType instanceof Class<?> plain)) {
      throw new IllegalStateException("no schema type: " + javaType);
    }
    if (plain == String.class) {
      return ScalarType.STR;
    } else if (plain == boolean.class || plain == Boolean.class) {
      return ScalarType.BOOL;
    } else if (plain == long.class || plain == Long.class) {
      return integer;
    } else if (plain == double.class || plain == Double.class) {
      return ScalarType.NUMBER;
    } else if (plain == StringOrNull.class) {
      return QapiType.AlternateType.STRING_OR_NULL;
    } else if (plain == AnyValue.class) {
      return ScalarType.ANY;
    } else if (plain.isEnum()) {
      return ENUMS.computeIfAbsent(plain, QapiTypes::enumType);
    } else if (plain.isRecord() || plain.isSealed()) {
      return struct(plain);
    }
    throw new IllegalStateException("no schema type: " + plain.getName());
  }

  private static EnumType enumType(Class<?> javaType) {
    List<QapiEnum> constants = new ArrayList<>();
    for (Object constant : javaType.getEnumConstants()) {
      constants.add((QapiEnum) constant);
    }
    return new EnumType(javaType, List.copyOf(constants));
  }

  private static ObjectType object(Class<?> javaType, int commonCount) {
    RecordComponent[] components = javaType.getRecordComponents();
    Class<?>[] parameters =
        Arrays.stream(components).map(RecordComponent::getType).toArray(Class<?>[]::new);
    List<Member> members = new ArrayList<>();
    for (RecordComponent component : components) {
      members.add(member(component));
    }
    try {
      return new ObjectType(
          javaType, List.copyOf(members), commonCount, javaType.getConstructor(parameters));
    } catch (NoSuchMethodException e) {
      throw new IllegalStateException("no public record: " + javaType.getName(), e);
    }
  }

  private static Member member(RecordComponent component) {
    QapiName name = component.getAnnotation(QapiName.class);
    QapiInt integer = component.getAnnotation(QapiInt.class);
    QapiFeatures features = component.getAnnotation(QapiFeatures.class);
    boolean optional =
        component.getAnnotatedType().isAnnotationPresent(Nullable.class)
            || component.isAnnotationPresent(DeclaredOptional.class);
    return new Member(
        name == null ? kebabCase(component.getName()) : name.value(),
        of(component.getGenericType(), integer == null ? ScalarType.INT64 : integer.value()),
        optional,
        features == null ? List.of() : List.of(features.value()),
        component.getAccessor());
  }

  private static UnionType union(Class<?> javaType) {
    QapiUnion union = javaType.getAnnotation(QapiUnion.class);
    if (union == null || !javaType.isSealed()) {
      throw new IllegalStateException("neither record nor union: " + javaType.getName());
    }
    EnumType tagType = ENUMS.computeIfAbsent(union.tagType(), QapiTypes::enumType);
    Map<String, StructType> byTag = new LinkedHashMap<>();
    int commonCount = union.common().length;
    List<Member> common = List.of();
    for (Class<?> permitted : javaType.getPermittedSubclasses()) {
      QapiBranch branch = permitted.getAnnotation(QapiBranch.class);
      if (branch == null || tagType.ofWireName(branch.value()) == null) {
        throw new IllegalStateException("no branch of the union: " + permitted.getName());
      }
      if (permitted.isRecord()) {
        ObjectType object = object(permitted, commonCount);
        byTag.put(branch.value(), object);
        common = object.components().subList(0, commonCount);
      } else {
        byTag.put(branch.value(), struct(permitted));
      }
    }
    if (byTag.size() != tagType.constants().size()) {
      throw new IllegalStateException("a branch for every tag: " + javaType.getName());
    }
    return new UnionType(
        javaType, union.tag(), tagType, List.copyOf(common), Collections.unmodifiableMap(byTag));
  }

  private static String kebabCase(String camelCase) {
    StringBuilder kebab = new StringBuilder();
    for (int i = 0; i < camelCase.length(); i++) {
      char c = camelCase.charAt(i);
      if (Character.isUpperCase(c)) {
        kebab.append('-').append(Character.toLowerCase(c));
      } else {
        kebab.append(c);
      }
    }
    return kebab.toString();
  }
}
