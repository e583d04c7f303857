package dev.postcopyd.posix.abi;

import static dev.postcopyd.posix.abi.Platform.pick;

/**
 * Constants of Linux's headers under their own names; all values are the kernel's ABI. Where the
 * two platforms differ the value is chosen when the class is loaded.
 */
public final class PosixConstants {
  // asm-generic/fcntl.h; aarch64 has its own values in asm/fcntl.h where two are given
  public static final int O_RDONLY = 0;
  public static final int O_WRONLY = 01;
  public static final int O_RDWR = 02;
  public static final int O_CREAT = 0100;
  public static final int O_EXCL = 0200;
  public static final int O_TRUNC = 01000;
  public static final int O_NONBLOCK = 04000;
  public static final int O_ACCMODE = 03;
  public static final int O_DIRECT = pick(040000, 0200000);
  public static final int O_DIRECTORY = pick(0200000, 040000);
  public static final int O_CLOEXEC = 02000000;
  public static final int F_DUPFD_CLOEXEC = 1030;
  public static final int F_GETFD = 1;
  public static final int F_SETFD = 2;
  public static final int F_GETFL = 3;
  public static final int F_SETFL = 4;
  public static final int F_SETSIG = 10;
  public static final int F_SETLEASE = 1024;
  public static final int F_GETLEASE = 1025;
  public static final int F_RDLCK = 0;
  public static final int F_UNLCK = 2;
  public static final int FD_CLOEXEC = 1;

  // linux/fcntl.h
  public static final int AT_FDCWD = -100;
  public static final int AT_EMPTY_PATH = 0x1000;
  public static final int AT_SYMLINK_NOFOLLOW = 0x100;

  // linux/stat.h
  public static final int STATX_BASIC_STATS = 0x7ff;
  public static final int S_IFMT = 0170000;
  public static final int S_IFREG = 0100000;
  public static final int S_IFDIR = 0040000;
  public static final int S_IFBLK = 0060000;

  // linux/fs.h
  public static final int BLKGETSIZE64 = 0x80081272;
  public static final int FICLONE = 0x40049409;
  public static final int FS_IOC_FSGETXATTR = 0x801c581f;
  public static final int FS_IOC_FSSETXATTR = 0x401c5820;
  public static final int FS_XFLAG_COWEXTSIZE = 0x10000;

  // asm-generic/mman-common.h, asm-generic/mman.h, linux/mman.h
  public static final int PROT_NONE = 0;
  public static final int PROT_READ = 1;
  public static final int PROT_WRITE = 2;
  public static final int MAP_SHARED = 0x01;
  public static final int MAP_PRIVATE = 0x02;
  public static final int MAP_ANONYMOUS = 0x20;
  public static final int MAP_NORESERVE = 0x4000;
  public static final int MAP_HUGETLB = 0x40000;
  public static final int MAP_HUGE_SHIFT = 26;
  public static final int MAP_FIXED_NOREPLACE = 0x100000;
  public static final int MADV_NORMAL = 0;
  public static final int MADV_RANDOM = 1;
  public static final int MADV_SEQUENTIAL = 2;
  public static final int MADV_WILLNEED = 3;
  public static final int MADV_DONTNEED = 4;
  public static final int MADV_REMOVE = 9;
  public static final int MADV_DONTFORK = 10;
  public static final int MADV_DOFORK = 11;
  public static final int MADV_HUGEPAGE = 14;
  public static final int MADV_NOHUGEPAGE = 15;
  public static final int MADV_DONTDUMP = 16;
  public static final int MADV_POPULATE_READ = 22;
  public static final int MADV_POPULATE_WRITE = 23;

  // asm-generic/fcntl.h
  public static final int LOCK_EX = 2;
  public static final int LOCK_NB = 4;

  // linux/memfd.h
  public static final int MFD_CLOEXEC = 0x1;
  public static final int MFD_HUGETLB = 0x4;
  public static final int MFD_HUGE_SHIFT = 26;

  // linux/fs.h
  public static final int SYNC_FILE_RANGE_WRITE = 2;

  // linux/falloc.h
  public static final int FALLOC_FL_KEEP_SIZE = 0x01;
  public static final int FALLOC_FL_PUNCH_HOLE = 0x02;

  // linux/eventfd.h, asm-generic/poll.h
  public static final int EFD_CLOEXEC = O_CLOEXEC;
  public static final int EFD_NONBLOCK = O_NONBLOCK;
  public static final int POLLIN = 0x0001;
  public static final int POLLOUT = 0x0004;
  public static final int POLLERR = 0x0008;
  public static final int POLLHUP = 0x0010;
  public static final int POLLNVAL = 0x0020;

  // linux/socket.h, linux/net.h, asm-generic/socket.h: the same on both platforms
  public static final int AF_UNIX = 1;
  public static final int AF_INET = 2;
  public static final int AF_INET6 = 10;
  public static final int SOCK_STREAM = 1;
  public static final int SOCK_DGRAM = 2;
  public static final int SOCK_CLOEXEC = O_CLOEXEC;
  public static final int SOCK_NONBLOCK = O_NONBLOCK;
  public static final int SOL_SOCKET = 1;
  public static final int SO_ERROR = 4;
  public static final int SO_REUSEADDR = 2;
  public static final int SO_SNDBUF = 7;
  public static final int SO_KEEPALIVE = 9;
  public static final int SO_PASSCRED = 16;
  public static final int SO_PEERCRED = 17;
  public static final int SCM_RIGHTS = 0x01;
  public static final int SCM_CREDENTIALS = 0x02;
  public static final int MSG_CTRUNC = 0x08;
  public static final int MSG_DONTWAIT = 0x40;
  public static final int MSG_NOSIGNAL = 0x4000;
  public static final int MSG_CMSG_CLOEXEC = 0x40000000;
  public static final int SHUT_RD = 0;
  public static final int SHUT_WR = 1;
  public static final int SHUT_RDWR = 2;

  // linux/in.h, linux/tcp.h
  public static final int IPPROTO_TCP = 6;
  public static final int TCP_NODELAY = 1;
  public static final int TCP_KEEPIDLE = 4;
  public static final int TCP_KEEPINTVL = 5;
  public static final int TCP_USER_TIMEOUT = 18;
  public static final int TCP_NOTSENT_LOWAT = 25;

  // linux/sched.h, linux/sched/types.h
  public static final int SCHED_NORMAL = 0;
  public static final int SCHED_BATCH = 3;
  public static final int SCHED_ATTR_SIZE_VER0 = 48;

  private PosixConstants() {}
}
