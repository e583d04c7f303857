package dev.postcopyd.stream;

import dev.postcopyd.page.RamBlock;
import java.io.IOException;

/**
 * Takes the pages of one channel, in the order of the stream, on the thread that decodes it. Pages
 * are target pages; every run lies within its block. What stands at an address is there until the
 * channel's buffer is exchanged. Implementations must not allocate per page.
 */
public interface PageReceiver {
  /**
   * Pages as bytes.
   *
   * @param address of the first page's bytes
   * @param strideBytes from one page's bytes to the next one's
   */
  void data(RamBlock block, long offsetBytes, int pageCount, long address, int strideBytes)
      throws IOException;

  /** Pages that are all zero. */
  void zero(RamBlock block, long offsetBytes, int pageCount) throws IOException;

  /** A page as a delta against what it held before: see {@link XbzrleDelta}. */
  void delta(RamBlock block, long offsetBytes, long address, int lengthBytes) throws IOException;
}
