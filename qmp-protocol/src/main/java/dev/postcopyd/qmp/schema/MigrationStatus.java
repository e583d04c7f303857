package dev.postcopyd.qmp.schema;

import dev.postcopyd.qmp.qapi.QapiEnum;

/** Where a migration stands: QEMU 10.0's states, and {@code postcopy-device} of QEMU 10.2. */
public enum MigrationStatus implements QapiEnum {
  NONE,
  SETUP,
  CANCELLING,
  CANCELLED,
  ACTIVE,
  /** Postcopy, but the guest is still loading its device state and does not run yet. */
  POSTCOPY_DEVICE,
  POSTCOPY_ACTIVE,
  POSTCOPY_PAUSED,
  POSTCOPY_RECOVER_SETUP,
  POSTCOPY_RECOVER,
  COMPLETED,
  FAILED,
  COLO,
  PRE_SWITCHOVER,
  DEVICE,
  WAIT_UNPLUG
}
