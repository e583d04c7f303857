package dev.postcopyd.uffd;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.abi.SyscallNumbers;
import dev.postcopyd.testing.Programs;
import dev.postcopyd.testing.Requirement;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Who gets a userfaultfd and who gets which advice, tried with real rights: a JVM as user 65532,
 * with and without the device, a capability, a seccomp filter and the sysctl. Every way that the
 * advice names is also taken.
 */
@Timeout(120)
class UffdPermissionIT {
  private static final Path SYSCTL = Path.of("/proc/sys/vm/unprivileged_userfaultfd");
  private static final String DROP =
      "setpriv --reuid 65532 --regid 65532 --clear-groups --inh-caps=-all";

  /** The way that names the device as it is in the sandbox of {@link #withDevices}. */
  private static final String OPEN_IT =
      "let uid 65532 (groups [65532]) open /dev/userfaultfd for reading and writing, now mode 0600"
          + " of 0:0, e.g. chgrp GROUP /dev/userfaultfd && chmod 0660 /dev/userfaultfd";

  private static final String NODE =
      "give this process the device node /dev/userfaultfd, which the kernel has but /dev does not"
          + " show: for a container, --device /dev/userfaultfd";
  private static final String SET_SYSCTL = "sysctl vm.unprivileged_userfaultfd=1 (now 0)";
  private static final String CAPABILITY = "CAP_SYS_PTRACE in the initial user namespace";
  private static final String FILTER =
      "a seccomp profile that allows system call userfaultfd (%d)"
          .formatted(SyscallNumbers.SYS_USERFAULTFD);
  private static final String NO_DEVICE =
      "UffdException: cannot create a userfaultfd: /dev/userfaultfd: ENOENT (No such file or"
          + " directory); userfaultfd(2): EPERM (Operation not permitted). Any one of these grants"
          + " it: ";
  private static final String USER_MODE =
      " Faults of user mode alone (UFFD_USER_MODE_ONLY) need no grant, but system calls and KVM could"
          + " then not touch the memory.\n";

  @TempDir Path directory;
  private String classPath = "";

  @BeforeEach
  void prepare() throws IOException {
    Requirement.root();
    Requirement.program("setpriv", "util-linux");
    Requirement.program("unshare", "util-linux");
    Requirement.that(
        Files.isReadable(SYSCTL) && Files.readString(SYSCTL).strip().equals("0"),
        "vm.unprivileged_userfaultfd=0");
    Requirement.that(deviceMinor() != null, "a kernel with /dev/userfaultfd (Linux 6.1)");
    classPath = Programs.classesForEverybody(directory, OpenOne.class);
  }

  private static @Nullable String deviceMinor() throws IOException {
    try (var lines = Files.lines(Path.of("/proc/misc"))) {
      return lines
          .map(String::strip)
          .filter(line -> line.endsWith(" userfaultfd"))
          .map(line -> line.substring(0, line.indexOf(' ')))
          .findFirst()
          .orElse(null);
    }
  }

  /**
   * Runs {@link OpenOne} behind a shell prefix in a mount namespace whose /dev has only so much.
   */
  private String withDevices(String devices, String prefix, String... arguments) {
    List<String> java = new ArrayList<>(Programs.javaWith(classPath, OpenOne.class));
    java.addAll(List.of(arguments));
    String script =
        "set -e; mount -t tmpfs -o mode=755 none /dev; mknod -m 666 /dev/null c 1 3; "
            + "mknod -m 666 /dev/urandom c 1 9; mknod -m 666 /dev/random c 1 8; "
            + devices
            + " exec "
            + prefix
            + " \"$@\"";
    List<String> command = new ArrayList<>(List.of("unshare", "--mount", "sh", "-c", script, "sh"));
    command.addAll(java);
    return Programs.run(Duration.ofSeconds(60), Map.of("LC_ALL", "C"), command).output();
  }

  private static String node(String mode, int group) throws IOException {
    return "mknod -m %s /dev/userfaultfd c 10 %s; chgrp %d /dev/userfaultfd;"
        .formatted(mode, deviceMinor(), group);
  }

  @Test
  void unprivilegedWithADeviceOfRoot() throws IOException {
    assertThat(withDevices(node("0600", 0), DROP))
        .isEqualTo(
            "UffdException: cannot create a userfaultfd: /dev/userfaultfd: EACCES (Permission"
                + " denied); userfaultfd(2): EPERM (Operation not permitted). Any one of these"
                + " grants it: (1) "
                + OPEN_IT
                + "; (2) "
                + SET_SYSCTL
                + "; (3) "
                + CAPABILITY
                + "."
                + USER_MODE);
  }

  @Test
  void wayOneTheDeviceForAGroup() throws IOException {
    assertThat(withDevices(node("0660", 65532), DROP)).isEqualTo("granted []\n");
    assertThat(
            withDevices(
                node("0660", 777),
                "setpriv --reuid 65532 --regid 65532 --groups 777 --inh-caps=-all"))
        .isEqualTo("granted []\n");
  }

  @Test
  void wayTwoTheSysctl() throws IOException {
    Files.writeString(SYSCTL, "1");
    try {
      assertThat(withDevices(node("0600", 0), DROP)).isEqualTo("granted []\n");
    } finally {
      Files.writeString(SYSCTL, "0");
    }
  }

  @Test
  void wayThreeTheCapability() throws IOException {
    String keep =
        "setpriv --reuid 65532 --regid 65532 --clear-groups --inh-caps=+sys_ptrace"
            + " --ambient-caps=+sys_ptrace";
    assertThat(withDevices(node("0600", 0), keep)).isEqualTo("granted []\n");
    assertThat(withDevices("", keep)).isEqualTo("granted []\n");
  }

  @Test
  void userModeOnlyNeedsNothing() {
    assertThat(withDevices("", DROP, "user-mode-only")).isEqualTo("granted []\n");
  }

  @Test
  void unprivilegedWithoutADevice() {
    assertThat(withDevices("", DROP))
        .isEqualTo(
            NO_DEVICE
                + "(1) "
                + NODE
                + "; (2) "
                + SET_SYSCTL
                + "; (3) "
                + CAPABILITY
                + "."
                + USER_MODE);
  }

  @Test
  void aSeccompFilterIsRecognised() throws IOException {
    Path deny = Programs.compileResource(directory, "deny-userfaultfd");
    assertThat(withDevices("", DROP + " " + deny))
        .isEqualTo(
            NO_DEVICE
                + "(1) "
                + NODE
                + "; (2) "
                + FILTER
                + " together with "
                + SET_SYSCTL
                + " or "
                + CAPABILITY
                + ".\n");
    assertThat(withDevices("", deny.toString()))
        .as("root has the capability and lacks only the profile")
        .isEqualTo(NO_DEVICE + "(1) " + NODE + "; (2) " + FILTER + ".\n");
    assertThat(withDevices(node("0660", 65532), DROP + " " + deny))
        .as("the device needs no system call of that name")
        .isEqualTo("granted []\n");
  }

  @Test
  void forkEventsAreLeftOutOrRefusedWithoutTheCapability() throws IOException {
    assertThat(withDevices(node("0660", 65532), DROP, "wanting-fork"))
        .isEqualTo("granted [THREAD_ID]\n");
    assertThat(withDevices(node("0660", 65532), DROP, "requiring-fork"))
        .isEqualTo(
            "UffdException: UFFD_FEATURE_EVENT_FORK needs CAP_SYS_PTRACE, which this process does"
                + " not have\n");
    assertThat(withDevices(node("0600", 0), "", "wanting-fork"))
        .isEqualTo("granted [EVENT_FORK, THREAD_ID]\n");
  }
}
