package dev.postcopyd.uffd;

import static dev.postcopyd.posix.Errno.EACCES;
import static dev.postcopyd.posix.Errno.EMFILE;
import static dev.postcopyd.posix.Errno.ENOENT;
import static dev.postcopyd.posix.Errno.ENOSYS;
import static dev.postcopyd.posix.Errno.EPERM;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.FileIdentity;
import dev.postcopyd.posix.FileStatus;
import dev.postcopyd.posix.abi.SyscallNumbers;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

/** What is advised in each situation that containers and plain hosts bring about. */
class UffdAccessTest {
  private static final FileStatus ROOT_ONLY =
      new FileStatus(0020600, 0, 0, new FileIdentity(5, 6, 0, 0), 0);
  private static final ProcessRights NOBODY =
      new ProcessRights(65532, List.of(65532), false, false);
  private static final ProcessRights NOBODY_FILTERED =
      new ProcessRights(65532, List.of(65532), false, true);
  private static final ProcessRights ROOT_FILTERED = new ProcessRights(0, List.of(0), false, true);
  private static final ProcessRights TRACER_FILTERED = new ProcessRights(0, List.of(0), true, true);

  private static final String FILTER =
      "a seccomp profile that allows system call userfaultfd (%d)"
          .formatted(SyscallNumbers.SYS_USERFAULTFD);
  private static final String SYSCTL = "sysctl vm.unprivileged_userfaultfd=1 (now 0)";
  private static final String CAPABILITY = "CAP_SYS_PTRACE in the initial user namespace";
  private static final String NODE =
      "give this process the device node /dev/userfaultfd, which the kernel has but /dev does not"
          + " show: for a container, --device /dev/userfaultfd";
  private static final String USER_MODE =
      " Faults of user mode alone (UFFD_USER_MODE_ONLY) need no grant, but system calls and KVM could"
          + " then not touch the memory.";

  private static String explain(
      int deviceErrno,
      @Nullable FileStatus node,
      int callErrno,
      int userModeErrno,
      ProcessRights caller) {
    return new UffdAccess(deviceErrno, true, node, callErrno, userModeErrno, "0", caller).explain();
  }

  @Test
  void unprivilegedOnAHost() {
    assertThat(explain(EACCES, ROOT_ONLY, EPERM, 0, NOBODY))
        .isEqualTo(
            "cannot create a userfaultfd: /dev/userfaultfd: EACCES (Permission denied);"
                + " userfaultfd(2): EPERM (Operation not permitted). Any one of these grants it:"
                + " (1) let uid 65532 (groups [65532]) open /dev/userfaultfd for reading and"
                + " writing, now mode 0600 of 0:0, e.g. chgrp GROUP /dev/userfaultfd && chmod 0660"
                + " /dev/userfaultfd; (2) "
                + SYSCTL
                + "; (3) "
                + CAPABILITY
                + "."
                + USER_MODE);
  }

  @Test
  void containerWithDefaultSeccompAndNoDevice() {
    assertThat(explain(ENOENT, null, EPERM, EPERM, ROOT_FILTERED))
        .isEqualTo(
            "cannot create a userfaultfd: /dev/userfaultfd: ENOENT (No such file or directory);"
                + " userfaultfd(2): EPERM (Operation not permitted). Any one of these grants it:"
                + " (1) "
                + NODE
                + "; (2) "
                + FILTER
                + " together with "
                + SYSCTL
                + " or "
                + CAPABILITY
                + ".");
  }

  @Test
  void containerWithSysPtraceButDefaultSeccomp() {
    assertThat(explain(ENOENT, null, EPERM, EPERM, TRACER_FILTERED))
        .endsWith("grants it: (1) " + NODE + "; (2) " + FILTER + ".");
  }

  @Test
  void containerWithASeccompProfileThatAllowsIt() {
    assertThat(explain(ENOENT, null, EPERM, 0, NOBODY_FILTERED))
        .endsWith(
            "grants it: (1) " + NODE + "; (2) " + SYSCTL + "; (3) " + CAPABILITY + "." + USER_MODE);
  }

  @Test
  void containerWithANodeThatItsDeviceCgroupRefuses() {
    assertThat(explain(EPERM, ROOT_ONLY, EPERM, EPERM, NOBODY_FILTERED))
        .contains(
            "(1) allow /dev/userfaultfd in the device cgroup: for a container, --device"
                + " /dev/userfaultfd; (2) "
                + FILTER);
  }

  @Test
  void aKernelWithoutTheDevice() {
    assertThat(new UffdAccess(ENOENT, false, null, EPERM, 0, "0", NOBODY).explain())
        .contains("grants it: (1) " + SYSCTL + "; (2) " + CAPABILITY + ".");
  }

  @Test
  void aKernelBuiltWithoutUserfaultfd() {
    assertThat(new UffdAccess(ENOENT, false, null, ENOSYS, ENOSYS, null, NOBODY).explain())
        .isEqualTo(
            "cannot create a userfaultfd: /dev/userfaultfd: ENOENT (No such file or directory);"
                + " userfaultfd(2): ENOSYS (Function not implemented). The kernel is built without"
                + " CONFIG_USERFAULTFD.");
  }

  @Test
  void aSeccompProfileThatAnswersNoSuchCall() {
    assertThat(explain(ENOENT, null, ENOSYS, ENOSYS, NOBODY_FILTERED))
        .endsWith(
            "grants it: (1) "
                + NODE
                + "; (2) "
                + FILTER
                + " together with "
                + SYSCTL
                + " or "
                + CAPABILITY
                + ".");
  }

  @Test
  void noMoreDescriptors() {
    assertThat(explain(EMFILE, ROOT_ONLY, EMFILE, EMFILE, NOBODY))
        .isEqualTo(
            "cannot create a userfaultfd: /dev/userfaultfd: EMFILE (Too many open files);"
                + " userfaultfd(2): EMFILE (Too many open files). This is not a question of"
                + " permission.");
  }

  @Test
  void rightsAreReadFromProcSelfStatus() {
    assertThat(
            ProcessRights.parse(
                List.of(
                    "Name:\tjava",
                    "Uid:\t1000\t65532\t1000\t1000",
                    "Gid:\t1000\t100\t1000\t1000",
                    "Groups:\t27 100 65532 ",
                    "CapEff:\t0000000000080000",
                    "Seccomp:\t2")))
        .isEqualTo(new ProcessRights(65532, List.of(100, 27, 65532), true, true));
    assertThat(
            ProcessRights.parse(
                List.of(
                    "Uid:\t0\t0\t0\t0",
                    "Gid:\t0\t0\t0\t0",
                    "Groups:\t",
                    "CapEff:\t000001fffff7ffff",
                    "Seccomp:\t0")))
        .isEqualTo(new ProcessRights(0, List.of(0), false, false));
  }
}
