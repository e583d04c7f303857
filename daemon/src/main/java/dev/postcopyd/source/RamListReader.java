package dev.postcopyd.source;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.RamListEntry;
import dev.postcopyd.stream.StreamDecoder;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamInput;
import java.io.IOException;
import java.util.HashSet;
import java.util.Set;

/** Reads the list of RAM blocks that begins a stream's RAM, and checks every number. Stateless. */
final class RamListReader {
  private RamListReader() {}

  /**
   * Reads the list.
   *
   * @param mayNamePageSizes whether page sizes may stand in it
   */
  static RamBlockTable read(StreamInput records, StreamDecoder decoder, boolean mayNamePageSizes)
      throws IOException {
    long totalOffset = records.offsetBytes();
    long total = decoder.ramTotal();
    if (total <= 0 || total > StreamFormat.MAX_RAM_BYTES) {
      throw new StreamFormatException(
          "RAM size of %s bytes is not possible (at most %d)"
              .formatted(Long.toUnsignedString(total), StreamFormat.MAX_RAM_BYTES),
          totalOffset);
    }
    RamBlockTable.Builder blocks = RamBlockTable.builder();
    Set<String> names = new HashSet<>();
    for (long left = total; left > 0; ) {
      long start = records.offsetBytes();
      RamListEntry entry = decoder.ramListEntry(false);
      long length = entry.usedLengthBytes();
      if (length == 0
          || Long.compareUnsigned(length, left) > 0
          || !StreamFormat.TARGET_PAGE_SIZE.isAligned(length)
          || !names.add(entry.name())
          || names.size() > StreamFormat.MAX_RAM_BLOCKS) {
        throw new StreamFormatException(
            "block '%s' of %s bytes does not fit: %d are left of the RAM size"
                .formatted(entry.name(), Long.toUnsignedString(length), left),
            start);
      }
      if (mayNamePageSizes) {
        skipHostPageSize(records);
      }
      blocks.add(entry.name(), length, StreamFormat.TARGET_PAGE_SIZE);
      left -= length;
    }
    return blocks.build();
  }

  /**
   * Behind a block with other than target pages stands its page size. A name's length is never 0,
   * and no word that can follow the list is a power of two of this size.
   */
  private static void skipHostPageSize(StreamInput records) throws IOException {
    if (records.peekU8("block name") != 0) {
      return;
    }
    long start = records.offsetBytes();
    long value = records.readBe64("host page size");
    if (Long.bitCount(value) != 1 || value <= PageSize.SIZE_4K.bytes()) {
      records.seek(start);
    }
  }
}
