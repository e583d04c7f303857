package dev.postcopyd.posix.abi;

/**
 * Sizes and field offsets, in bytes, of the kernel structures that system calls take here. {@code
 * NAME_SIZEOF} is {@code sizeof(struct name)}, {@code NAME_FIELD} is {@code offsetof(struct name,
 * field)}. The same on both platforms: none holds a type that differs.
 */
public final class PosixStructs {
  // struct statx, linux/stat.h
  public static final int STATX_SIZEOF = 256;
  public static final int STATX_STX_MODE = 28; // __u16
  public static final int STATX_STX_UID = 20; // __u32
  public static final int STATX_STX_GID = 24; // __u32
  public static final int STATX_STX_INO = 32; // __u64
  public static final int STATX_STX_SIZE = 40; // __u64
  public static final int STATX_STX_CTIME = 96; // struct statx_timestamp: __s64, __u32
  public static final int STATX_STX_MTIME = 112; // struct statx_timestamp: __s64, __u32
  public static final int STATX_STX_DEV_MAJOR = 136; // __u32
  public static final int STATX_STX_DEV_MINOR = 140; // __u32
  public static final int STATX_TIMESTAMP_TV_SEC = 0;
  public static final int STATX_TIMESTAMP_TV_NSEC = 8;

  // struct iovec, linux/uio.h
  public static final int IOVEC_SIZEOF = 16;
  public static final int IOVEC_IOV_BASE = 0;
  public static final int IOVEC_IOV_LEN = 8;

  // struct msghdr and struct cmsghdr, linux/socket.h
  public static final int MSGHDR_SIZEOF = 56;
  public static final int MSGHDR_MSG_NAME = 0;
  public static final int MSGHDR_MSG_NAMELEN = 8; // __u32
  public static final int MSGHDR_MSG_IOV = 16;
  public static final int MSGHDR_MSG_IOVLEN = 24;
  public static final int MSGHDR_MSG_CONTROL = 32;
  public static final int MSGHDR_MSG_CONTROLLEN = 40;
  public static final int MSGHDR_MSG_FLAGS = 48; // __u32
  public static final int CMSGHDR_SIZEOF = 16;
  public static final int CMSGHDR_CMSG_LEN = 0; // __u64
  public static final int CMSGHDR_CMSG_LEVEL = 8; // __s32
  public static final int CMSGHDR_CMSG_TYPE = 12; // __s32

  // struct ucred, linux/socket.h
  public static final int UCRED_SIZEOF = 12;
  public static final int UCRED_PID = 0;
  public static final int UCRED_UID = 4;
  public static final int UCRED_GID = 8;

  // struct sockaddr_un, linux/un.h
  public static final int SOCKADDR_UN_SIZEOF = 110;
  public static final int SOCKADDR_UN_SUN_FAMILY = 0; // __u16
  public static final int SOCKADDR_UN_SUN_PATH = 2;

  // struct sockaddr_in, linux/in.h; struct sockaddr_in6, linux/in6.h. Ports and addresses are
  // big-endian.
  public static final int SOCKADDR_IN_SIZEOF = 16;
  public static final int SOCKADDR_IN_SIN_FAMILY = 0; // __u16
  public static final int SOCKADDR_IN_SIN_PORT = 2; // __be16
  public static final int SOCKADDR_IN_SIN_ADDR = 4;
  public static final int SOCKADDR_IN6_SIZEOF = 28;
  public static final int SOCKADDR_IN6_SIN6_FAMILY = 0; // __u16
  public static final int SOCKADDR_IN6_SIN6_PORT = 2; // __be16
  public static final int SOCKADDR_IN6_SIN6_ADDR = 8;
  public static final int SOCKADDR_IN6_SIN6_SCOPE_ID = 24; // __u32

  // struct pollfd, asm-generic/poll.h
  public static final int POLLFD_SIZEOF = 8;
  public static final int POLLFD_FD = 0; // __s32
  public static final int POLLFD_EVENTS = 4; // __s16
  public static final int POLLFD_REVENTS = 6; // __s16

  // struct timespec of 64-bit platforms
  public static final int TIMESPEC_SIZEOF = 16;
  public static final int TIMESPEC_TV_SEC = 0;
  public static final int TIMESPEC_TV_NSEC = 8;

  // struct fsxattr, linux/fs.h
  public static final int FSXATTR_SIZEOF = 28;
  public static final int FSXATTR_FSX_XFLAGS = 0; // __u32
  public static final int FSXATTR_FSX_COWEXTSIZE = 16; // __u32

  // struct sched_attr, linux/sched/types.h
  public static final int SCHED_ATTR_SIZE = 0; // __u32
  public static final int SCHED_ATTR_SCHED_POLICY = 4; // __u32
  public static final int SCHED_ATTR_SCHED_RUNTIME = 24; // __u64, ns

  private PosixStructs() {}
}
