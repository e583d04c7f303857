package dev.postcopyd.uffd;

import static dev.postcopyd.posix.abi.PosixConstants.AT_FDCWD;
import static dev.postcopyd.posix.abi.PosixConstants.O_CLOEXEC;
import static dev.postcopyd.posix.abi.PosixConstants.O_NONBLOCK;
import static dev.postcopyd.posix.abi.PosixConstants.O_RDWR;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_IOCTL;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_OPENAT;
import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_USERFAULTFD;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFDIO_API;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_API;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_USER_MODE_ONLY;
import static dev.postcopyd.uffd.abi.UapiConstants.USERFAULTFD_IOC_NEW;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_API_API;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_API_FEATURES;
import static dev.postcopyd.uffd.abi.UapiStructs.UFFDIO_API_IOCTLS;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.abi.Libc;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.util.EnumSet;
import java.util.Set;

/**
 * Creates a userfaultfd and makes the handshake.
 *
 * <p>The handshake takes two descriptors: UFFDIO_API says which features there are only to a caller
 * that asks for none, and cannot be repeated on the same descriptor.
 */
final class UffdOpener {
  static final String DEVICE = "/dev/userfaultfd";

  /** What came of it; the descriptor is the caller's. */
  record Opened(int fd, Set<UffdFeature> features) {}

  private UffdOpener() {}

  static Opened open(UffdOptions options) throws IOException {
    int flags =
        O_CLOEXEC
            | (options.nonBlocking() ? O_NONBLOCK : 0)
            | (options.userModeOnly() ? UFFD_USER_MODE_ONLY : 0);
    Set<UffdFeature> available = available(flags);
    Set<UffdFeature> missing = EnumSet.noneOf(UffdFeature.class);
    missing.addAll(options.required());
    missing.removeAll(available);
    if (!missing.isEmpty()) {
      throw new UffdException(
          "the kernel (%s) lacks these userfaultfd features: %s"
              .formatted(System.getProperty("os.version"), missing));
    }
    Set<UffdFeature> enabled = EnumSet.noneOf(UffdFeature.class);
    enabled.addAll(options.all());
    enabled.retainAll(available);
    int fd = create(flags);
    try {
      long answer = handshake(fd, UffdFeature.bits(enabled));
      if (answer == -Errno.EPERM && enabled.contains(UffdFeature.EVENT_FORK)) {
        if (options.required().contains(UffdFeature.EVENT_FORK)) {
          throw new UffdException(
              "UFFD_FEATURE_EVENT_FORK needs CAP_SYS_PTRACE, which this process does not have");
        }
        enabled.remove(UffdFeature.EVENT_FORK);
        answer = handshake(fd, UffdFeature.bits(enabled));
      }
      if (answer < 0) {
        throw new ErrnoException("UFFDIO_API", "features " + enabled, (int) -answer);
      }
      return new Opened(fd, enabled);
    } catch (IOException | RuntimeException e) {
      FileDescriptors.close(fd);
      throw e;
    }
  }

  private static Set<UffdFeature> available(int flags) throws IOException {
    int fd = create(flags);
    try {
      long answer = handshake(fd, 0);
      if (answer < 0) {
        throw new ErrnoException("UFFDIO_API", "no features", (int) -answer);
      }
      return UffdFeature.ofBits(CallArguments.ofThread().get(UFFDIO_API_FEATURES));
    } finally {
      FileDescriptors.close(fd);
    }
  }

  private static long handshake(int fd, long features) {
    CallArguments arguments = CallArguments.ofThread();
    arguments.set(UFFDIO_API_API, UFFD_API);
    arguments.set(UFFDIO_API_FEATURES, features);
    arguments.set(UFFDIO_API_IOCTLS, 0);
    return arguments.ioctl(fd, UFFDIO_API);
  }

  private static int create(int flags) throws IOException {
    long byDevice = createByDevice(flags);
    if (byDevice >= 0) {
      return (int) byDevice;
    }
    long byCall = createByCall(flags);
    if (byCall >= 0) {
      return (int) byCall;
    }
    throw new UffdException(UffdAccess.observe((int) -byDevice, (int) -byCall, flags).explain());
  }

  private static long createByDevice(int flags) {
    try (Arena arena = Arena.ofConfined()) {
      long device =
          Libc.syscall(
              SYS_OPENAT, AT_FDCWD, arena.allocateFrom(DEVICE).address(), O_RDWR | O_CLOEXEC, 0);
      if (device < 0) {
        return device;
      }
      try {
        return Libc.syscall(SYS_IOCTL, device, USERFAULTFD_IOC_NEW, flags);
      } finally {
        FileDescriptors.close((int) device);
      }
    }
  }

  static long createByCall(int flags) {
    return Libc.syscall(SYS_USERFAULTFD, flags);
  }
}
