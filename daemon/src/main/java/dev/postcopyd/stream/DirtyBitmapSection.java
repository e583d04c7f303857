package dev.postcopyd.stream;

import java.io.IOException;

/**
 * The payload of a section {@code dirty-bitmap}: what block nodes have been written to. It has no
 * length, so it is read piece by piece, and handed on as it is.
 *
 * <pre>
 * chunks: u8 flags, [0x08: str8 node], [0x04: str8 bitmap], then by flag
 *   0x10 START     be32 granularity, u8
 *   0x40 BITS      be64 first sector, be32 count, [unless 0x02 ZEROES: be64 n, n bytes]
 *   0x20 COMPLETE  nothing
 * the chunk with 0x01 EOS is the last
 * </pre>
 *
 * <p>Layout established on streams of QEMU 10.0.2. Stateless.
 */
public final class DirtyBitmapSection {
  /** How the section calls itself. */
  public static final String NAME = "dirty-bitmap";

  private static final int EOS = 0x01;
  private static final int ZEROES = 0x02;
  private static final int BITMAP_NAME = 0x04;
  private static final int NODE_NAME = 0x08;
  private static final int START = 0x10;
  private static final int COMPLETE = 0x20;
  private static final int BITS = 0x40;
  private static final int KNOWN = EOS | ZEROES | BITMAP_NAME | NODE_NAME | START | COMPLETE | BITS;

  /** One chunk of bits; QEMU's own are of a few KiB. */
  private static final int MAX_BITS_BYTES = 1 << 20;

  private DirtyBitmapSection() {}

  /**
   * Reads the payload of one section.
   *
   * @param maxBytes how long it may be in all
   * @return its bytes, unchanged
   */
  public static byte[] read(StreamInput in, int maxBytes) throws IOException {
    StreamEncoder copy = new StreamEncoder();
    while (true) {
      long start = in.offsetBytes();
      int flags = in.readU8("flags of a dirty bitmap");
      if ((flags & ~KNOWN) != 0 || Integer.bitCount(flags & (START | COMPLETE | BITS)) > 1) {
        throw new StreamFormatException(
            "dirty bitmap has the flags 0x%02x, which are not supported".formatted(flags), start);
      }
      copy.u8(flags);
      if ((flags & NODE_NAME) != 0) {
        copy.name(in.readName("node name"));
      }
      if ((flags & BITMAP_NAME) != 0) {
        copy.name(in.readName("bitmap name"));
      }
      chunk(in, copy, flags);
      if (copy.sizeBytes() > maxBytes) {
        throw new StreamFormatException(
            "dirty bitmap of more than " + maxBytes + " bytes is too large", start);
      }
      if ((flags & EOS) != 0) {
        return copy.toByteArray();
      }
    }
  }

  /** Goes on behind the payload of one section. */
  public static void skip(StreamInput in, int maxBytes) throws IOException {
    byte[] _ = read(in, maxBytes);
  }

  private static void chunk(StreamInput in, StreamEncoder copy, int flags) throws IOException {
    if ((flags & START) != 0) {
      copy.be32(in.readBe32("granularity")).u8(in.readU8("bitmap flags"));
    } else if ((flags & BITS) != 0) {
      copy.be64(in.readBe64("first sector")).be32(in.readBe32("sector count"));
      if ((flags & ZEROES) == 0) {
        long at = in.offsetBytes();
        long length = in.readBe64("length of the bits");
        if (length < 0 || length > MAX_BITS_BYTES) {
          throw new StreamFormatException(
              "dirty bitmap has " + Long.toUnsignedString(length) + " bytes of bits", at);
        }
        copy.be64(length).bytes(in.readBytes((int) length, "bits of a dirty bitmap"));
      }
    }
  }
}
