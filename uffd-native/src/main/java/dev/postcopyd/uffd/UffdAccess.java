package dev.postcopyd.uffd;

import static dev.postcopyd.posix.abi.SyscallNumbers.SYS_USERFAULTFD;
import static dev.postcopyd.uffd.abi.UapiConstants.UFFD_USER_MODE_ONLY;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.FileStatus;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * What was seen when neither way to a userfaultfd worked, and what follows from it.
 *
 * <p>Kernel rules (fs/userfaultfd.c): who can open the device needs nothing else. The system call
 * needs CAP_SYS_PTRACE of the initial user namespace or vm.unprivileged_userfaultfd=1, unless it
 * asks for faults of user mode only, which everybody may have; so where even that is refused, a
 * seccomp filter refuses it.
 *
 * @param deviceErrno why the device gave none
 * @param deviceKnown whether the kernel has the device, whatever is in /dev
 * @param deviceNode the node in /dev, if there is one
 * @param callErrno why the system call gave none
 * @param userModeErrno what it answers when it asks for faults of user mode only; 0 is success
 * @param unprivilegedSysctl vm.unprivileged_userfaultfd, if there is such a setting
 * @param caller who we are
 */
record UffdAccess(
    int deviceErrno,
    boolean deviceKnown,
    @Nullable FileStatus deviceNode,
    int callErrno,
    int userModeErrno,
    @Nullable String unprivilegedSysctl,
    ProcessRights caller) {

  /** Looks around after both attempts have failed with these errors. */
  static UffdAccess observe(int deviceErrno, int callErrno, int flags) throws IOException {
    long userMode = UffdOpener.createByCall(flags | UFFD_USER_MODE_ONLY);
    if (userMode >= 0) {
      FileDescriptors.close((int) userMode);
    }
    FileStatus node = null;
    if (Files.exists(Path.of(UffdOpener.DEVICE))) {
      node = FileStatus.of(Path.of(UffdOpener.DEVICE));
    }
    return new UffdAccess(
        deviceErrno,
        contents("/proc/misc").lines().anyMatch(line -> line.endsWith(" userfaultfd")),
        node,
        callErrno,
        userMode >= 0 ? 0 : (int) -userMode,
        firstLine("/proc/sys/vm/unprivileged_userfaultfd"),
        ProcessRights.ofThisProcess());
  }

  /** One paragraph: what was tried, and each way that would open the door. */
  String explain() {
    String tried =
        "cannot create a userfaultfd: %s: %s; userfaultfd(2): %s. "
            .formatted(UffdOpener.DEVICE, Errno.describe(deviceErrno), Errno.describe(callErrno));
    if (callErrno == Errno.ENOSYS && !deviceKnown && unprivilegedSysctl == null) {
      return tried + "The kernel is built without CONFIG_USERFAULTFD.";
    }
    if (!isRefusal(callErrno) && !isRefusal(deviceErrno)) {
      return tried + "This is not a question of permission.";
    }
    List<String> ways = new ArrayList<>();
    addDevice(ways);
    addCall(ways);
    StringBuilder text = new StringBuilder(tried).append("Any one of these grants it:");
    for (int i = 0; i < ways.size(); i++) {
      text.append(" (").append(i + 1).append(") ").append(ways.get(i)).append(';');
    }
    text.setCharAt(text.length() - 1, '.');
    if (userModeErrno == 0) {
      text.append(
          " Faults of user mode alone (UFFD_USER_MODE_ONLY) need no grant, but system calls and KVM"
              + " could then not touch the memory.");
    }
    return text.toString();
  }

  private void addDevice(List<String> ways) {
    switch (deviceErrno) {
      case Errno.ENOENT, Errno.ENODEV, Errno.ENXIO -> {
        if (deviceKnown) {
          ways.add(
              "give this process the device node /dev/userfaultfd, which the kernel has but /dev does"
                  + " not show: for a container, --device /dev/userfaultfd");
        }
      }
      case Errno.EPERM ->
          ways.add(
              "allow /dev/userfaultfd in the device cgroup: for a container, --device"
                  + " /dev/userfaultfd");
      case Errno.EACCES ->
          ways.add(
              "let uid %d (groups %s) open /dev/userfaultfd for reading and writing%s, e.g. chgrp GROUP"
                      .formatted(
                          caller.uid(),
                          caller.groups(),
                          deviceNode == null
                              ? ""
                              : ", now mode 0%o of %d:%d"
                                  .formatted(
                                      deviceNode.mode() & 07777,
                                      deviceNode.uid(),
                                      deviceNode.gid()))
                  + " /dev/userfaultfd && chmod 0660 /dev/userfaultfd");
      default -> {}
    }
  }

  private void addCall(List<String> ways) {
    boolean allowedOtherwise = caller.canTraceProcesses() || "1".equals(unprivilegedSysctl);
    String filter =
        "a seccomp profile that allows system call userfaultfd (%d)".formatted(SYS_USERFAULTFD);
    String sysctl = "sysctl vm.unprivileged_userfaultfd=1 (now %s)".formatted(unprivilegedSysctl);
    String capability = "CAP_SYS_PTRACE in the initial user namespace";
    boolean filtered = isRefusal(userModeErrno) && caller.seccompFiltered();
    if (filtered && allowedOtherwise) {
      ways.add(filter);
    } else if (filtered) {
      ways.add(filter + " together with " + sysctl + " or " + capability);
    } else if (isRefusal(callErrno)) {
      if (unprivilegedSysctl != null) {
        ways.add(sysctl);
      }
      ways.add(capability);
    }
  }

  /** ENOSYS, too, where the kernel evidently has the call: some seccomp profiles answer so. */
  private static boolean isRefusal(int errno) {
    return errno == Errno.EPERM || errno == Errno.EACCES || errno == Errno.ENOSYS;
  }

  private static String contents(String path) {
    try {
      return Files.readString(Path.of(path));
    } catch (IOException e) {
      return "";
    }
  }

  private static @Nullable String firstLine(String path) {
    String text = contents(path).strip();
    return text.isEmpty() ? null : text;
  }
}
