package dev.postcopyd.uffd;

import dev.postcopyd.uffd.abi.UapiConstants;
import java.util.Set;

/** Which faults of a range are reported: {@code UFFDIO_REGISTER_MODE_*}. */
public enum RegisterMode {
  /** No page is there; resolved by COPY, ZEROPAGE, MOVE or POISON. */
  MISSING(UapiConstants.UFFDIO_REGISTER_MODE_MISSING),
  /** A write to a page that was write-protected; resolved by WRITEPROTECT. */
  WP(UapiConstants.UFFDIO_REGISTER_MODE_WP),
  /** The page is in the page cache but not mapped here; resolved by CONTINUE. */
  MINOR(UapiConstants.UFFDIO_REGISTER_MODE_MINOR);

  private final long bit;

  RegisterMode(long bit) {
    this.bit = bit;
  }

  static long bits(Set<RegisterMode> modes) {
    long bits = 0;
    for (RegisterMode mode : modes) {
      bits |= mode.bit;
    }
    return bits;
  }
}
