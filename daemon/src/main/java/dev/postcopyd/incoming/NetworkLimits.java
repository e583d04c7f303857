package dev.postcopyd.incoming;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;

/** What a migration into memory can't be, said before anything is lost by it. Stateless. */
final class NetworkLimits {
  /** Sets of pages: claimed, received, come, written, waited for, asked ahead. */
  private static final int BITS_PER_PAGE = 6;

  private NetworkLimits() {}

  /** The capability has to be on where the guest is to be switched over early. */
  static void requirePostcopy(boolean enabled) throws IOException {
    if (!enabled) {
      throw new IOException(
          "the source has the capability postcopy-ram, which is off here: switch it on with migrate-set-capabilities before migrate-incoming");
    }
  }

  /** Pages come one by one: a source with larger ones insists on whole ones being asked for. */
  static void requireBasePages(long hostPageSizes) throws IOException {
    if (hostPageSizes != StreamFormat.TARGET_PAGE_SIZE.bytes()) {
      throw new IOException(
          "the source's RAM has pages of other sizes than 4 KiB (0x%x), which is not supported with postcopy: give its guest RAM without huge pages, or switch postcopy-ram off"
              .formatted(hostPageSizes));
    }
  }

  /** The bitmaps of a guest's pages have to fit into the heap, before they are made. */
  static void requireHeap(RamBlockTable table) throws IOException {
    long bytes = table.indexSpaceSize() / Byte.SIZE * BITS_PER_PAGE;
    long limit = Runtime.getRuntime().maxMemory() / 2;
    if (bytes > limit) {
      throw new IOException(
          "not enough memory: the page bitmaps need %d bytes, and of the Java heap (-Xmx) %d may be used"
              .formatted(bytes, limit));
    }
  }
}
