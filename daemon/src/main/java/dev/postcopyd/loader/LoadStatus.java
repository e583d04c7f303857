package dev.postcopyd.loader;

/** A load's state as the outside names it; the words are QEMU's MigrationStatus. */
public enum LoadStatus {
  NONE,
  SETUP,
  ACTIVE,
  POSTCOPY_DEVICE,
  POSTCOPY_ACTIVE,
  POSTCOPY_PAUSED,
  POSTCOPY_RECOVER_SETUP,
  POSTCOPY_RECOVER,
  COMPLETED,
  FAILED,
  CANCELLING,
  CANCELLED
}
