package dev.postcopyd.qmp.qapi;

import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** A type of the schema, as {@link QapiTypes} reads it from a Java type. Immutable. */
public sealed interface QapiType
    permits ScalarType,
        QapiType.EnumType,
        QapiType.ArrayType,
        QapiType.AlternateType,
        QapiType.StructType {

  /** A string out of a list. Two of the same Java type are the same type. */
  record EnumType(Class<?> javaType, List<? extends QapiEnum> constants) implements QapiType {
    @Nullable QapiEnum ofWireName(String wireName) {
      for (QapiEnum constant : constants) {
        if (constant.wireName().equals(wireName)) {
          return constant;
        }
      }
      return null;
    }
  }

  /** A list of anything of one type. */
  record ArrayType(QapiType element) implements QapiType {}

  /** Either a string or null; QEMU's one alternate that we have. */
  enum AlternateType implements QapiType {
    STRING_OR_NULL
  }

  /** What an object in JSON can be. */
  sealed interface StructType extends QapiType {
    Class<?> javaType();
  }

  /**
   * An object with a fixed set of members.
   *
   * @param components every component of the record; a branch of a union begins with the members
   *     that are common to all branches
   * @param commonCount how many of those there are, 0 for a record that is no branch
   */
  record ObjectType(
      Class<?> javaType, List<Member> components, int commonCount, Constructor<?> constructor)
      implements StructType {
    /** The members that are this object's own. */
    public List<Member> members() {
      return components.subList(commonCount, components.size());
    }
  }

  /**
   * An object whose members depend on the value of one of them.
   *
   * @param common the members that all branches have, the tag not among them
   * @param branches by the tag's wire names, in their order
   */
  record UnionType(
      Class<?> javaType,
      String tag,
      EnumType tagType,
      List<Member> common,
      Map<String, StructType> branches)
      implements StructType {}

  /**
   * A member of an object.
   *
   * @param accessor reads it from the record
   */
  record Member(
      String name, QapiType type, boolean optional, List<String> features, Method accessor) {}
}
