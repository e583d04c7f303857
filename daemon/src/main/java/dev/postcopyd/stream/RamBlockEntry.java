package dev.postcopyd.stream;

/**
 * A RAM block as the RAM section lists it: name, length, and where a mapped-ram file keeps it.
 *
 * @param usedLengthBytes as it stands in the file: not checked, and as a signed number possibly
 *     negative
 * @param headerOffsetBytes file offset of the mapped-ram header
 */
public record RamBlockEntry(
    String name, long usedLengthBytes, long headerOffsetBytes, MappedRamHeader header) {
  /** File offset of the length, which stands right before the header. */
  public long lengthOffsetBytes() {
    return headerOffsetBytes - Long.BYTES;
  }

  /** File offset of the first byte behind the header. */
  public long headerEndBytes() {
    return headerOffsetBytes + MappedRamHeader.LENGTH_BYTES;
  }

  /** How many bytes of the file an entry of this name takes. */
  public static int lengthBytes(String name) {
    return 1 + name.length() + Long.BYTES + MappedRamHeader.LENGTH_BYTES;
  }
}
