package dev.postcopyd.postcopy;

import dev.postcopyd.page.RamBlock;
import java.io.IOException;

/**
 * Takes pages from a {@link PostcopyPageHandler}. Safe for any thread; no method allocates, but for
 * what does not happen on the good path.
 */
public interface PageSink {
  /**
   * Delivers pages as bytes.
   *
   * @param sourceAddress native address of the first page's bytes; valid until the call returns
   */
  void data(
      RamBlock block, long firstPageIndex, int pageCount, long sourceAddress, Urgency urgency);

  /** Delivers pages that are all zero. */
  void zero(RamBlock block, long firstPageIndex, int pageCount, Urgency urgency);

  /** These pages can't be had. The cause's message names path or peer, offset and reason. */
  void failed(RamBlock block, long firstPageIndex, int pageCount, IOException cause);
}
