package dev.postcopyd.outgoing.background;

/** Whether a snapshot is made from the one before it. */
public enum Incremental {
  /** Never; writes are tracked while a guest is being saved, and not between. */
  OFF,
  /** Where the file system lets two files share their blocks; else a snapshot is a full one. */
  REFLINK,
  /**
   * The same, and where it does not, what has not changed is copied from file to file: that spares
   * the guest, but not the disk.
   */
  COPY
}
