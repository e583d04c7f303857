package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** The kinds of {@link SchemaInfo}. */
public enum SchemaMetaType implements QapiEnum {
  BUILTIN,
  ENUM,
  ARRAY,
  OBJECT,
  ALTERNATE,
  COMMAND,
  EVENT
}
