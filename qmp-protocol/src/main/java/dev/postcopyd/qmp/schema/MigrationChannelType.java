package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** What a channel of a migration carries. */
public enum MigrationChannelType implements QapiEnum {
  MAIN,
  CPR
}
