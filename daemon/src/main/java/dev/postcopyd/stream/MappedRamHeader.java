package dev.postcopyd.stream;

import java.io.IOException;

/**
 * What stands in the place of a RAM block's pages in a mapped-ram file: where they lie, and where
 * the bitmap of those that are stored. Packed, big-endian:
 *
 * <pre>
 *  0  be32  version, 1
 *  4  be64  page size in bytes
 * 12  be64  file offset of the bitmap
 * 20  be64  file offset of page 0
 * </pre>
 *
 * <p>Both offsets are absolute, also where the stream itself does not begin the file. Immutable.
 */
public record MappedRamHeader(long bitmapOffsetBytes, long pagesOffsetBytes) {
  public static final int VERSION = 1;
  public static final int LENGTH_BYTES = 28;

  // Where the fields lie in the header.
  public static final int PAGE_SIZE_AT = 4;
  public static final int BITMAP_OFFSET_AT = 12;
  public static final int PAGES_OFFSET_AT = 20;

  /**
   * Reads and checks a header, all but its offsets: only the whole file can tell about these.
   *
   * @throws StreamFormatException if the version or the page size is another than ours
   */
  static MappedRamHeader decode(StreamInput in) throws IOException {
    long start = in.offsetBytes();
    int version = in.readBe32("mapped-ram header version");
    if (version != VERSION) {
      throw new StreamFormatException(
          "mapped-ram header version "
              + Integer.toUnsignedString(version)
              + " is not supported (only "
              + VERSION
              + ")",
          start);
    }
    long pageSizeBytes = in.readBe64("mapped-ram page size");
    if (Long.bitCount(pageSizeBytes) != 1) {
      throw new StreamFormatException(
          "page size " + Long.toUnsignedString(pageSizeBytes) + " is not a power of two",
          start + PAGE_SIZE_AT);
    }
    if (pageSizeBytes != StreamFormat.TARGET_PAGE_SIZE.bytes()) {
      throw new StreamFormatException(
          "page size "
              + Long.toUnsignedString(pageSizeBytes)
              + " is not supported (only "
              + StreamFormat.TARGET_PAGE_SIZE.bytes()
              + ")",
          start + PAGE_SIZE_AT);
    }
    return new MappedRamHeader(
        in.readBe64("mapped-ram bitmap offset"), in.readBe64("mapped-ram pages offset"));
  }

  void encode(StreamEncoder out) {
    out.be32(VERSION);
    out.be64(StreamFormat.TARGET_PAGE_SIZE.bytes());
    out.be64(bitmapOffsetBytes);
    out.be64(pagesOffsetBytes);
  }

  /** How many bytes the bitmap of so many pages takes in the file: whole 64-bit words. */
  public static long bitmapBytes(long pageCount) {
    return (pageCount + 63) >>> 6 << 3;
  }
}
