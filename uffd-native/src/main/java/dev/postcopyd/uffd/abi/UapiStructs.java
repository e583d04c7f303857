package dev.postcopyd.uffd.abi;

/**
 * Sizes and field offsets, in bytes, of the structures of {@code linux/userfaultfd.h}. {@code
 * NAME_SIZEOF} is {@code sizeof(struct name)}, {@code NAME_FIELD} is {@code offsetof(struct name,
 * field)}. Every field is a {@code __u64} unless noted.
 */
public final class UapiStructs {
  public static final int UFFDIO_API_SIZEOF = 24;
  public static final int UFFDIO_API_API = 0;
  public static final int UFFDIO_API_FEATURES = 8;
  public static final int UFFDIO_API_IOCTLS = 16;

  public static final int UFFDIO_RANGE_SIZEOF = 16;
  public static final int UFFDIO_RANGE_START = 0;
  public static final int UFFDIO_RANGE_LEN = 8;

  // Where a struct begins with a struct uffdio_range, that range's offsets hold for it too.
  public static final int UFFDIO_REGISTER_SIZEOF = 32;
  public static final int UFFDIO_REGISTER_RANGE = 0;
  public static final int UFFDIO_REGISTER_MODE = 16;
  public static final int UFFDIO_REGISTER_IOCTLS = 24;

  public static final int UFFDIO_COPY_SIZEOF = 40;
  public static final int UFFDIO_COPY_DST = 0;
  public static final int UFFDIO_COPY_SRC = 8;
  public static final int UFFDIO_COPY_LEN = 16;
  public static final int UFFDIO_COPY_MODE = 24;
  public static final int UFFDIO_COPY_COPY = 32; // __s64

  public static final int UFFDIO_ZEROPAGE_SIZEOF = 32;
  public static final int UFFDIO_ZEROPAGE_RANGE = 0;
  public static final int UFFDIO_ZEROPAGE_MODE = 16;
  public static final int UFFDIO_ZEROPAGE_ZEROPAGE = 24; // __s64

  public static final int UFFDIO_WRITEPROTECT_SIZEOF = 24;
  public static final int UFFDIO_WRITEPROTECT_RANGE = 0;
  public static final int UFFDIO_WRITEPROTECT_MODE = 16;

  public static final int UFFDIO_CONTINUE_SIZEOF = 32;
  public static final int UFFDIO_CONTINUE_RANGE = 0;
  public static final int UFFDIO_CONTINUE_MODE = 16;
  public static final int UFFDIO_CONTINUE_MAPPED = 24; // __s64

  public static final int UFFDIO_POISON_SIZEOF = 32;
  public static final int UFFDIO_POISON_RANGE = 0;
  public static final int UFFDIO_POISON_MODE = 16;
  public static final int UFFDIO_POISON_UPDATED = 24; // __s64

  public static final int UFFDIO_MOVE_SIZEOF = 40;
  public static final int UFFDIO_MOVE_DST = 0;
  public static final int UFFDIO_MOVE_SRC = 8;
  public static final int UFFDIO_MOVE_LEN = 16;
  public static final int UFFDIO_MOVE_MODE = 24;
  public static final int UFFDIO_MOVE_MOVE = 32; // __s64

  public static final int UFFD_MSG_SIZEOF = 32;
  public static final int UFFD_MSG_EVENT = 0; // __u8
  public static final int UFFD_MSG_ARG_PAGEFAULT_FLAGS = 8;
  public static final int UFFD_MSG_ARG_PAGEFAULT_ADDRESS = 16;
  public static final int UFFD_MSG_ARG_PAGEFAULT_FEAT_PTID = 24; // __u32
  public static final int UFFD_MSG_ARG_FORK_UFD = 8; // __u32
  public static final int UFFD_MSG_ARG_REMAP_FROM = 8;
  public static final int UFFD_MSG_ARG_REMAP_TO = 16;
  public static final int UFFD_MSG_ARG_REMAP_LEN = 24;
  public static final int UFFD_MSG_ARG_REMOVE_START = 8;
  public static final int UFFD_MSG_ARG_REMOVE_END = 16;

  private UapiStructs() {}
}
