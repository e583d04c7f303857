package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** What a client may enable in {@code qmp_capabilities}. */
public enum QmpCapability implements QapiEnum {
  /** {@code exec-oob}. */
  OOB
}
