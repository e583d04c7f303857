package dev.postcopyd.outgoing.background;

/**
 * How background snapshots are made.
 *
 * @param bufferBytes how much may be copied and not written yet
 * @param incremental whether from the one before it
 */
public record SnapshotOptions(long bufferBytes, Incremental incremental) {
  /** 256 MiB, and each of them in full. */
  public static final SnapshotOptions DEFAULT =
      new SnapshotOptions(BackgroundSave.DEFAULT_BUFFER_BYTES, Incremental.OFF);
}
