package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** Who looks for zero pages on the sending side. */
public enum ZeroPageDetection implements QapiEnum {
  NONE,
  LEGACY,
  MULTIFD
}
