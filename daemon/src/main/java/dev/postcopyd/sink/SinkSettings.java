package dev.postcopyd.sink;

import java.nio.file.Path;

/**
 * How much of a migration may wait for the snapshot's disk, and where. Immutable.
 *
 * @param memoryBytes in memory, in whole MiB
 * @param spillBytes in a file, when that is not enough
 * @param spillDirectory where the file is; best on another disk
 */
public record SinkSettings(long memoryBytes, long spillBytes, Path spillDirectory) {
  private static final long MEMORY_BYTES = 256L << 20;

  /** As much in the file as a disk has. */
  private static final long SPILL_BYTES = 1L << 40;

  public static final SinkSettings DEFAULT =
      new SinkSettings(
          MEMORY_BYTES, SPILL_BYTES, Path.of(System.getProperty("java.io.tmpdir", "/tmp")));

  public SinkSettings withSpillDirectory(Path directory) {
    return new SinkSettings(memoryBytes, spillBytes, directory);
  }
}
