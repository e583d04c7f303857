package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** What a migration is for. */
public enum MigrationMode implements QapiEnum {
  NORMAL,
  CPR_REBOOT,
  CPR_TRANSFER
}
