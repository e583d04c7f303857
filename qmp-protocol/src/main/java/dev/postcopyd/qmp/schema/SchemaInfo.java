package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.AnyValue;
import dev.postcopyd.qmp.qapi.QapiBranch;
import dev.postcopyd.qmp.qapi.QapiFeatures;
import dev.postcopyd.qmp.qapi.QapiName;
import dev.postcopyd.qmp.qapi.QapiUnion;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** One entry of {@code query-qmp-schema}. */
@QapiUnion(
    tag = "meta-type",
    tagType = SchemaMetaType.class,
    common = {"name", "features"})
public sealed interface SchemaInfo {
  /** A type that JSON has by itself. */
  @QapiBranch("builtin")
  record Builtin(String name, @Nullable List<String> features, JsonType jsonType)
      implements SchemaInfo {}

  /**
   * A string out of a list.
   *
   * @param values the names of the members once more, for old clients
   */
  @QapiBranch("enum")
  record Enumeration(
      String name,
      @Nullable List<String> features,
      List<EnumMember> members,
      @QapiFeatures("deprecated") List<String> values)
      implements SchemaInfo {}

  /** A list of values of one type. */
  @QapiBranch("array")
  record Array(String name, @Nullable List<String> features, String elementType)
      implements SchemaInfo {}

  /**
   * An object.
   *
   * @param tag the member that selects a variant
   */
  @QapiBranch("object")
  record Struct(
      String name,
      @Nullable List<String> features,
      List<ObjectMember> members,
      @Nullable String tag,
      @Nullable List<ObjectVariant> variants)
      implements SchemaInfo {}

  /** A value of one of several types. */
  @QapiBranch("alternate")
  record Alternate(String name, @Nullable List<String> features, List<AlternateMember> members)
      implements SchemaInfo {}

  /** A command. */
  @QapiBranch("command")
  record Command(
      String name,
      @Nullable List<String> features,
      String argType,
      String retType,
      @Nullable Boolean allowOob)
      implements SchemaInfo {}

  /** An event. */
  @QapiBranch("event")
  record Event(String name, @Nullable List<String> features, String argType)
      implements SchemaInfo {}

  /** A value of an enumeration. */
  record EnumMember(String name, @Nullable List<String> features) {}

  /**
   * A member of an object.
   *
   * @param defaultValue present on optional members only; null means that there is no default
   */
  record ObjectMember(
      String name,
      String type,
      @QapiName("default") @Nullable AnyValue defaultValue,
      @Nullable List<String> features) {}

  /** What further members an object has if its tag has a certain value. */
  record ObjectVariant(@QapiName("case") String caseName, String type) {}

  /** One of the types of an alternate. */
  record AlternateMember(String type) {}
}
