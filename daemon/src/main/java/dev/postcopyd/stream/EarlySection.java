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
  private static final int MAX_SMALL_ID = 0xffff;

  /** A footer, and enough of what follows to know it by. */
  private static final int LOOK_BYTES = StreamFormat.FOOTER_BYTES + 5;

  private EarlySection() {}

  /**
   * Reads payload and footer.
   *
   * @param maxBytes how long they may be
   */
  public static byte[] read(ChannelInput in, int sectionId, int maxBytes) throws IOException {
    int length = 0;
    while (true) {
      int at = in.require(length + LOOK_BYTES, "the footer of an early section");
      ByteBuffer bytes = in.bytes();
      int end = in.limit() - LOOK_BYTES - at;
      for (; length <= end; length++) {
        if (bytes.get(at + length) == StreamFormat.SECTION_FOOTER
            && bytes.getInt(at + length + 1) == sectionId
            && canFollow(bytes, at + length + StreamFormat.FOOTER_BYTES)) {
          byte[] section = new byte[length + StreamFormat.FOOTER_BYTES];
          bytes.get(at, section);
          in.skip(section.length);
          return section;
        }
      }
      if (length > maxBytes) {
        throw new StreamFormatException(
            "section %s has no footer within %d bytes"
                .formatted(Integer.toUnsignedString(sectionId), maxBytes),
            in.offsetBytes());
      }
    }
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
