package dev.postcopyd.qmp.qapi;

/** The built-in types, with the widths that QEMU checks; introspection shows all integers alike. */
public enum ScalarType implements QapiType {
  STR("str", "string"),
  NUMBER("number", "number"),
  BOOL("bool", "boolean"),
  NULL("null", "null"),
  ANY("any", "value"),
  INT64("int", "int"),
  UINT8("int", "int"),
  UINT16("int", "int"),
  UINT32("int", "int"),
  UINT64("int", "int");

  private final String schemaName;
  private final String jsonType;

  ScalarType(String schemaName, String jsonType) {
    this.schemaName = schemaName;
    this.jsonType = jsonType;
  }

  /** The name in introspection. */
  public String schemaName() {
    return schemaName;
  }

  /** What introspection says that it looks like in JSON. */
  public String jsonType() {
    return jsonType;
  }
}
