package dev.postcopyd.uffd;

import dev.postcopyd.uffd.abi.UapiConstants;

/**
 * Which calls the kernel allows on a range that has just been registered.
 *
 * @param bits {@code uffdio_register.ioctls}
 */
public record RegisteredIoctls(long bits) {
  public boolean wake() {
    return has(UapiConstants._UFFDIO_WAKE);
  }

  public boolean copy() {
    return has(UapiConstants._UFFDIO_COPY);
  }

  /** False for hugetlb memory, where a zero page is copied like any other. */
  public boolean zeroPage() {
    return has(UapiConstants._UFFDIO_ZEROPAGE);
  }

  public boolean move() {
    return has(UapiConstants._UFFDIO_MOVE);
  }

  public boolean writeProtect() {
    return has(UapiConstants._UFFDIO_WRITEPROTECT);
  }

  public boolean continuePages() {
    return has(UapiConstants._UFFDIO_CONTINUE);
  }

  public boolean poison() {
    return has(UapiConstants._UFFDIO_POISON);
  }

  private boolean has(int number) {
    return (bits & 1L << number) != 0;
  }
}
