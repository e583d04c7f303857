package dev.postcopyd.uffd.abi;

/**
 * The constants of {@code linux/userfaultfd.h} (Linux 6.18) under their own names, the same on
 * every architecture that Java's Linux ports have. Request numbers are derived from the structures'
 * sizes as the header does it.
 */
public final class UapiConstants {
  public static final long UFFD_API = 0xAA;
  public static final int UFFD_USER_MODE_ONLY = 1;

  // The ioctl of /dev/userfaultfd
  public static final int USERFAULTFD_IOC = 0xAA;
  public static final long USERFAULTFD_IOC_NEW = request(0, USERFAULTFD_IOC, 0x00, 0);

  // Bit numbers in uffdio_api.ioctls and uffdio_register.ioctls, and request numbers
  public static final int _UFFDIO_REGISTER = 0x00;
  public static final int _UFFDIO_UNREGISTER = 0x01;
  public static final int _UFFDIO_WAKE = 0x02;
  public static final int _UFFDIO_COPY = 0x03;
  public static final int _UFFDIO_ZEROPAGE = 0x04;
  public static final int _UFFDIO_MOVE = 0x05;
  public static final int _UFFDIO_WRITEPROTECT = 0x06;
  public static final int _UFFDIO_CONTINUE = 0x07;
  public static final int _UFFDIO_POISON = 0x08;
  public static final int _UFFDIO_API = 0x3F;

  // The ioctls of a userfaultfd
  public static final int UFFDIO = 0xAA;
  public static final long UFFDIO_API = iowr(_UFFDIO_API, UapiStructs.UFFDIO_API_SIZEOF);
  public static final long UFFDIO_REGISTER =
      iowr(_UFFDIO_REGISTER, UapiStructs.UFFDIO_REGISTER_SIZEOF);
  public static final long UFFDIO_UNREGISTER =
      ior(_UFFDIO_UNREGISTER, UapiStructs.UFFDIO_RANGE_SIZEOF);
  public static final long UFFDIO_WAKE = ior(_UFFDIO_WAKE, UapiStructs.UFFDIO_RANGE_SIZEOF);
  public static final long UFFDIO_COPY = iowr(_UFFDIO_COPY, UapiStructs.UFFDIO_COPY_SIZEOF);
  public static final long UFFDIO_ZEROPAGE =
      iowr(_UFFDIO_ZEROPAGE, UapiStructs.UFFDIO_ZEROPAGE_SIZEOF);
  public static final long UFFDIO_MOVE = iowr(_UFFDIO_MOVE, UapiStructs.UFFDIO_MOVE_SIZEOF);
  public static final long UFFDIO_WRITEPROTECT =
      iowr(_UFFDIO_WRITEPROTECT, UapiStructs.UFFDIO_WRITEPROTECT_SIZEOF);
  public static final long UFFDIO_CONTINUE =
      iowr(_UFFDIO_CONTINUE, UapiStructs.UFFDIO_CONTINUE_SIZEOF);
  public static final long UFFDIO_POISON = iowr(_UFFDIO_POISON, UapiStructs.UFFDIO_POISON_SIZEOF);

  // uffdio_api.features
  public static final long UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1L << 0;
  public static final long UFFD_FEATURE_EVENT_FORK = 1L << 1;
  public static final long UFFD_FEATURE_EVENT_REMAP = 1L << 2;
  public static final long UFFD_FEATURE_EVENT_REMOVE = 1L << 3;
  public static final long UFFD_FEATURE_MISSING_HUGETLBFS = 1L << 4;
  public static final long UFFD_FEATURE_MISSING_SHMEM = 1L << 5;
  public static final long UFFD_FEATURE_EVENT_UNMAP = 1L << 6;
  public static final long UFFD_FEATURE_SIGBUS = 1L << 7;
  public static final long UFFD_FEATURE_THREAD_ID = 1L << 8;
  public static final long UFFD_FEATURE_MINOR_HUGETLBFS = 1L << 9;
  public static final long UFFD_FEATURE_MINOR_SHMEM = 1L << 10;
  public static final long UFFD_FEATURE_EXACT_ADDRESS = 1L << 11;
  public static final long UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1L << 12;
  public static final long UFFD_FEATURE_WP_UNPOPULATED = 1L << 13;
  public static final long UFFD_FEATURE_POISON = 1L << 14;
  public static final long UFFD_FEATURE_WP_ASYNC = 1L << 15;
  public static final long UFFD_FEATURE_MOVE = 1L << 16;

  // Modes
  public static final long UFFDIO_REGISTER_MODE_MISSING = 1L << 0;
  public static final long UFFDIO_REGISTER_MODE_WP = 1L << 1;
  public static final long UFFDIO_REGISTER_MODE_MINOR = 1L << 2;
  public static final long UFFDIO_COPY_MODE_DONTWAKE = 1L << 0;
  public static final long UFFDIO_COPY_MODE_WP = 1L << 1;
  public static final long UFFDIO_ZEROPAGE_MODE_DONTWAKE = 1L << 0;
  public static final long UFFDIO_WRITEPROTECT_MODE_WP = 1L << 0;
  public static final long UFFDIO_WRITEPROTECT_MODE_DONTWAKE = 1L << 1;
  public static final long UFFDIO_CONTINUE_MODE_DONTWAKE = 1L << 0;
  public static final long UFFDIO_CONTINUE_MODE_WP = 1L << 1;
  public static final long UFFDIO_POISON_MODE_DONTWAKE = 1L << 0;
  public static final long UFFDIO_MOVE_MODE_DONTWAKE = 1L << 0;
  public static final long UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES = 1L << 1;

  // uffd_msg.event, and flags of UFFD_EVENT_PAGEFAULT
  public static final int UFFD_EVENT_PAGEFAULT = 0x12;
  public static final int UFFD_EVENT_FORK = 0x13;
  public static final int UFFD_EVENT_REMAP = 0x14;
  public static final int UFFD_EVENT_REMOVE = 0x15;
  public static final int UFFD_EVENT_UNMAP = 0x16;
  public static final long UFFD_PAGEFAULT_FLAG_WRITE = 1L << 0;
  public static final long UFFD_PAGEFAULT_FLAG_WP = 1L << 1;
  public static final long UFFD_PAGEFAULT_FLAG_MINOR = 1L << 2;

  private UapiConstants() {}

  /** _IOC of asm-generic/ioctl.h: direction, size, type and number in 2, 14, 8 and 8 bits. */
  private static long request(int direction, int type, int number, int size) {
    return Integer.toUnsignedLong(direction << 30 | size << 16 | type << 8 | number);
  }

  private static long ior(int number, int size) {
    return request(2, UFFDIO, number, size);
  }

  private static long iowr(int number, int size) {
    return request(3, UFFDIO, number, size);
  }
}
