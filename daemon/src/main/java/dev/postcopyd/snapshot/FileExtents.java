package dev.postcopyd.snapshot;

import dev.postcopyd.stream.StreamFormatException;
import java.util.ArrayList;
import java.util.List;

/**
 * Which parts of a file have been given away. A mapped-ram file is written front to back, so every
 * part must lie behind all earlier ones; that also keeps any two from overlapping.
 *
 * <p>Not thread-safe. Offsets come from the file and are taken as unsigned.
 */
final class FileExtents {
  private record Extent(long startBytes, long endBytes, String what) {}

  private final long fileSizeBytes;
  private final List<Extent> extents = new ArrayList<>();
  private long endBytes;

  FileExtents(long fileSizeBytes, long startBytes) {
    this.fileSizeBytes = fileSizeBytes;
    this.endBytes = startBytes;
  }

  /** Where the next part may begin at the earliest. */
  long endBytes() {
    return endBytes;
  }

  /**
   * Gives away {@code lengthBytes} at {@code startBytes}.
   *
   * @param what how messages call this part
   * @param fieldOffsetBytes where in the file {@code startBytes} was read
   * @throws StreamFormatException if the part does not lie within the file, or lies before or on an
   *     earlier one
   */
  void take(long startBytes, long lengthBytes, String what, long fieldOffsetBytes)
      throws StreamFormatException {
    if (Long.compareUnsigned(startBytes, fileSizeBytes) > 0
        || lengthBytes > fileSizeBytes - startBytes) {
      throw new StreamFormatException(
          "%s (%d bytes from 0x%x on) end beyond the end of the file (%d bytes)"
              .formatted(what, lengthBytes, startBytes, fileSizeBytes),
          fieldOffsetBytes);
    }
    if (startBytes < endBytes) {
      throw new StreamFormatException(
          "%s (%d bytes from 0x%x on) %s"
              .formatted(what, lengthBytes, startBytes, conflict(startBytes, lengthBytes)),
          fieldOffsetBytes);
    }
    endBytes = startBytes + lengthBytes;
    extents.add(new Extent(startBytes, endBytes, what));
  }

  private String conflict(long startBytes, long lengthBytes) {
    for (Extent extent : extents) {
      if (startBytes < extent.endBytes() && extent.startBytes() < startBytes + lengthBytes) {
        return "overlap the "
            + extent.what()
            + " (from 0x%x to 0x%x)".formatted(extent.startBytes(), extent.endBytes());
      }
    }
    return "lie before 0x%x, where they cannot begin".formatted(endBytes);
  }
}
