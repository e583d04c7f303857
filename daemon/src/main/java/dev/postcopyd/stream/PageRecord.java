package dev.postcopyd.stream;

/**
 * One target page on a migration stream: a word, the block's name where it has changed, and what
 * the page holds.
 *
 * <pre>
 * be64  offset in the block | flags (0x08 data, 0x02 zero, 0x20 same block as before)
 * str8  block name, unless 0x20
 * 4096 bytes, or for a zero page one byte 0
 * </pre>
 *
 * <p>"Before" means on the same channel. Page records of a postcopy migration stand in one RAM
 * section on the main channel, and bare on the preempt channel. Layout observed in streams of QEMU
 * 10.0.2.
 *
 * @param offsetBytes where in the block the page lies; a multiple of the target page size
 */
public record PageRecord(String blockName, long offsetBytes, boolean isZero) {
  /** Length of the word. */
  public static final int WORD_BYTES = Long.BYTES;

  /** What follows the word (and the name) of a zero page. */
  public static final int ZERO_PAYLOAD_BYTES = 1;

  public PageRecord {
    if (offsetBytes < 0 || !StreamFormat.TARGET_PAGE_SIZE.isAligned(offsetBytes)) {
      throw new IllegalArgumentException("not the offset of a page: " + offsetBytes);
    }
  }

  /** The word that begins a record, as a number: it goes out big-endian. */
  public static long word(long offsetBytes, boolean zero, boolean sameBlock) {
    return offsetBytes
        | (zero ? StreamFormat.RAM_FLAG_ZERO : StreamFormat.RAM_FLAG_PAGE)
        | (sameBlock ? StreamFormat.RAM_FLAG_CONTINUE : 0);
  }
}
