package dev.postcopyd.posix.abi;

import static dev.postcopyd.posix.abi.Platform.pick;

/**
 * System call numbers: {@code SYS_NAME} is the kernel's {@code __NR_name}. x86-64's come from
 * {@code asm/unistd_64.h}, aarch64's from {@code asm-generic/unistd.h}.
 */
public final class SyscallNumbers {
  public static final int SYS_READ = pick(0, 63);
  public static final int SYS_WRITE = pick(1, 64);
  public static final int SYS_CLOSE = pick(3, 57);
  public static final int SYS_LSEEK = pick(8, 62);
  public static final int SYS_MMAP = pick(9, 222);
  public static final int SYS_MUNMAP = pick(11, 215);
  public static final int SYS_IOCTL = pick(16, 29);
  public static final int SYS_PREAD64 = pick(17, 67);
  public static final int SYS_PWRITE64 = pick(18, 68);
  public static final int SYS_MADVISE = pick(28, 233);
  public static final int SYS_SOCKET = pick(41, 198);
  public static final int SYS_CONNECT = pick(42, 203);
  public static final int SYS_SENDTO = pick(44, 206);
  public static final int SYS_RECVFROM = pick(45, 207);
  public static final int SYS_SENDMSG = pick(46, 211);
  public static final int SYS_RECVMSG = pick(47, 212);
  public static final int SYS_SHUTDOWN = pick(48, 210);
  public static final int SYS_BIND = pick(49, 200);
  public static final int SYS_LISTEN = pick(50, 201);
  public static final int SYS_GETSOCKNAME = pick(51, 204);
  public static final int SYS_GETPEERNAME = pick(52, 205);
  public static final int SYS_SOCKETPAIR = pick(53, 199);
  public static final int SYS_SETSOCKOPT = pick(54, 208);
  public static final int SYS_GETSOCKOPT = pick(55, 209);
  public static final int SYS_FCNTL = pick(72, 25);
  public static final int SYS_FLOCK = pick(73, 32);
  public static final int SYS_FSYNC = pick(74, 82);
  public static final int SYS_FDATASYNC = pick(75, 83);
  public static final int SYS_FTRUNCATE = pick(77, 46);
  public static final int SYS_FCHMOD = pick(91, 52);
  public static final int SYS_GETTID = pick(186, 178);
  public static final int SYS_SCHED_SETAFFINITY = pick(203, 122);
  public static final int SYS_SCHED_GETAFFINITY = pick(204, 123);
  public static final int SYS_OPENAT = pick(257, 56);
  public static final int SYS_FCHOWNAT = pick(260, 54);
  public static final int SYS_UNLINKAT = pick(263, 35);
  public static final int SYS_FCHMODAT = pick(268, 53);
  public static final int SYS_PPOLL = pick(271, 73);
  public static final int SYS_SYNC_FILE_RANGE = pick(277, 84);
  public static final int SYS_FALLOCATE = pick(285, 47);
  public static final int SYS_ACCEPT4 = pick(288, 242);
  public static final int SYS_EVENTFD2 = pick(290, 19);
  public static final int SYS_PWRITEV = pick(296, 70);
  public static final int SYS_PROCESS_VM_READV = pick(310, 270);
  public static final int SYS_SCHED_SETATTR = pick(314, 274);
  public static final int SYS_SCHED_GETATTR = pick(315, 275);
  public static final int SYS_MEMFD_CREATE = pick(319, 279);
  public static final int SYS_USERFAULTFD = pick(323, 282);
  public static final int SYS_STATX = pick(332, 291);
  public static final int SYS_PIDFD_SEND_SIGNAL = pick(424, 424);
  public static final int SYS_PIDFD_OPEN = pick(434, 434);
  public static final int SYS_OPENAT2 = pick(437, 437);
  public static final int SYS_PIDFD_GETFD = pick(438, 438);

  private SyscallNumbers() {}
}
