package dev.postcopyd.postcopy.network;

import java.io.IOException;

/**
 * How much data a source may bring into memory of the daemon's own: what goes beyond it does not
 * fail, but makes the kernel kill the whole daemon.
 *
 * @param pages of 4 KiB with data; zero pages take none
 * @param reason why there can be no more, for the message
 */
public record DataLimit(long pages, String reason) {
  /** Memory that others pay for. */
  public static final DataLimit NONE = new DataLimit(Long.MAX_VALUE, "");

  /** Refuses what is more. */
  void require(long pageCount) throws IOException {
    if (pageCount > pages) {
      throw new IOException(
          "out of memory: the source has sent %d pages with data, and %s"
              .formatted(pageCount, reason));
    }
  }
}
