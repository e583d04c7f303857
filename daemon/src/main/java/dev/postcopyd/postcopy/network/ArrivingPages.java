package dev.postcopyd.postcopy.network;

import dev.postcopyd.page.RamBlock;
import java.io.IOException;
import java.nio.ByteBuffer;

/**
 * Takes pages as a source sends them, on the threads of its channels. Pages are 4 KiB; every run
 * lies within its block. Must not allocate per page.
 */
public interface ArrivingPages {
  /**
   * Pages as bytes, which are there until the call returns.
   *
   * @param strideBytes from one page's bytes to the next one's
   */
  void data(RamBlock block, long offsetBytes, int pageCount, long address, int strideBytes)
      throws IOException;

  /** Pages that are all zero. */
  void zero(RamBlock block, long offsetBytes, int pageCount) throws IOException;

  /** A page as a delta against what it held before. */
  void delta(RamBlock block, long offsetBytes, ByteBuffer bytes, int position, int lengthBytes)
      throws IOException;
}
