package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** How a built-in type looks in JSON. */
public enum JsonType implements QapiEnum {
  STRING,
  NUMBER,
  INT,
  BOOLEAN,
  NULL,
  OBJECT,
  ARRAY,
  VALUE
}
