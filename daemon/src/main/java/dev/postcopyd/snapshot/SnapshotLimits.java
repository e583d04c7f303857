package dev.postcopyd.snapshot;

import java.io.IOException;

/**
 * How large the parts of a snapshot may be. The numbers in a file decide how much memory its reader
 * takes; these bounds are checked before anything is allocated.
 */
final class SnapshotLimits {
  /** RAM blocks of one guest. A well-equipped QEMU has some dozens, 256 DIMMs included. */
  static final int MAX_BLOCKS = 4096;

  /** RAM of one guest: 64 TiB, whose bitmap takes 2 GiB. */
  static final long MAX_RAM_BYTES = 1L << 46;

  /** Sections and commands between the RAM list and the end of RAM: one for each save iteration. */
  static final int MAX_RAM_SECTIONS = 1 << 20;

  /** All device sections together; some hundred KiB are usual, a virtio-gpu's may take more. */
  static final int MAX_DEVICE_STATE_BYTES = 256 << 20;

  /** The JSON that describes them; some hundred KiB are usual. */
  static final int MAX_VMDESCRIPTION_BYTES = 64 << 20;

  private SnapshotLimits() {}

  /**
   * Refuses what would not fit into half of the Java heap.
   *
   * @throws IOException if {@code bytes} is more than that
   */
  static void requireHeap(long bytes, String what) throws IOException {
    long limit = Runtime.getRuntime().maxMemory() / 2;
    if (bytes > limit) {
      throw new IOException(
          "not enough memory: "
              + what
              + " needs "
              + bytes
              + " bytes, and of the Java heap (-Xmx) "
              + limit
              + " bytes may be used for it");
    }
  }
}
