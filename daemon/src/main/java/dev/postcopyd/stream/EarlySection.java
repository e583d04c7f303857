package dev.postcopyd.stream;

import java.io.IOException;
import java.nio.ByteBuffer;

/**
 * A device section that stands before the first part of RAM: the early state of a virtio-mem
 * device, the only kind there is in QEMU 10. It has no length; its end is the first footer of its
 * own id behind which something begins that can follow it.
 *
 * <p>Heuristic, as no other way is open: a payload that imitates both would be cut short, and the
 * stream refused behind it. Stateless.
 */
public final class EarlySection {
  /** How long one may be; a virtio-mem's has some hundred bytes and its plugged bitmap. */
  public static final int MAX_BYTES = 256 << 10;

  private static final int MAX_SMALL_ID = 0xffff;

  /** A footer, and enough of what follows to know it by. */
  private static final int LOOK_BYTES = StreamFormat.FOOTER_BYTES + 5;

  private EarlySection() {}

  /**
   * Goes on behind payload and footer of one that stands in a file.
   *
   * @throws StreamFormatException if there is no footer
   */
  public static void skip(StreamInput in, int sectionId) throws IOException {
    long start = in.offsetBytes();
    int window = (int) Math.min(in.remainingBytes(), MAX_BYTES + LOOK_BYTES);
    ByteBuffer bytes = ByteBuffer.wrap(in.readBytes(window, "an early section"));
    for (int length = 0; length <= window - LOOK_BYTES; length++) {
      if (endsAt(bytes, length, sectionId)) {
        in.seek(start + length + StreamFormat.FOOTER_BYTES);
        return;
      }
    }
    throw noFooter(sectionId, start);
  }

  /** Reads payload and footer of one that comes over a channel. */
  public static byte[] read(ChannelInput in, int sectionId) throws IOException {
    int length = 0;
    while (true) {
      int at = in.require(length + LOOK_BYTES, "the footer of an early section");
      ByteBuffer bytes = in.bytes();
      int end = in.limit() - LOOK_BYTES - at;
      for (; length <= end; length++) {
        if (endsAt(bytes, at + length, sectionId)) {
          byte[] section = new byte[length + StreamFormat.FOOTER_BYTES];
          bytes.get(at, section);
          in.skip(section.length);
          return section;
        }
      }
      if (length > MAX_BYTES) {
        throw noFooter(sectionId, in.offsetBytes());
      }
    }
  }

  private static boolean endsAt(ByteBuffer bytes, int at, int sectionId) {
    return bytes.get(at) == StreamFormat.SECTION_FOOTER
        && bytes.getInt(at + 1) == sectionId
        && canFollow(bytes, at + StreamFormat.FOOTER_BYTES);
  }

  private static StreamFormatException noFooter(int sectionId, long offsetBytes) {
    return new StreamFormatException(
        "early section %s has no footer within %d bytes"
            .formatted(Integer.toUnsignedString(sectionId), MAX_BYTES),
        offsetBytes);
  }

  private static boolean canFollow(ByteBuffer bytes, int at) {
    return switch (bytes.get(at)) {
      case StreamFormat.TYPE_SECTION_START,
          StreamFormat.TYPE_SECTION_PART,
          StreamFormat.TYPE_SECTION_END,
          StreamFormat.TYPE_SECTION_FULL ->
          Integer.compareUnsigned(bytes.getInt(at + 1), MAX_SMALL_ID) <= 0;
      case StreamFormat.TYPE_COMMAND ->
          bytes.get(at + 1) == 0 && bytes.get(at + 2) <= StreamFormat.COMMAND_SWITCHOVER_START;
      default -> false;
    };
  }
}
