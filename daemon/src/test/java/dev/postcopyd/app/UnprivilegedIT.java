package dev.postcopyd.app;

import static dev.postcopyd.app.PackagedDaemon.awaitMigration;
import static dev.postcopyd.app.PackagedDaemon.disable;
import static dev.postcopyd.app.PackagedDaemon.enable;
import static dev.postcopyd.app.PackagedDaemon.load;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.message.QmpException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * The packaged program as user 65532 of a machine that gives userfaultfd to root alone: whoever
 * wants postcopy-ram is told how to grant it, plain loads work, and a granted device is enough.
 * What is said in which situation, {@code UffdPermissionIT} tries one by one.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class UnprivilegedIT {
  private static final String DEVICES =
      "set -e; mount -t tmpfs -o mode=755 none /dev; mknod -m 666 /dev/null c 1 3; "
          + "mknod -m 666 /dev/urandom c 1 9; mknod -m 666 /dev/random c 1 8; ";
  private static final String DROP =
      "exec setpriv --reuid 65532 --regid 65532 --clear-groups --inh-caps=-all \"$@\"";

  @TempDir Path directory;

  private Path program = Path.of("");

  @BeforeEach
  void programForEverybody() throws Exception {
    Path setting = Path.of("/proc/sys/vm/unprivileged_userfaultfd");
    require(
        Files.isWritable(setting) && Files.readString(setting).strip().equals("0"),
        "root, and vm.unprivileged_userfaultfd=0");
    require(Files.isExecutable(Path.of("/usr/bin/setpriv")), "setpriv (util-linux)");
    // The checkout may be where only its owner can go.
    program = directory.resolve("program");
    run("cp", "-a", PackagedDaemon.home().toString(), program.toString());
    run("chmod", "-R", "a+rX", program.toString());
    Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxrwxrwx"));
  }

  private static void require(boolean present, String needed) {
    if (!present && Objects.equals(System.getenv("CI"), "true")) {
      throw new AssertionError("CI lacks what this test needs: " + needed);
    }
    Assumptions.assumeTrue(present, () -> "this test needs " + needed);
  }

  private static void run(String... command) throws IOException, InterruptedException {
    Process process = new ProcessBuilder(command).inheritIO().start();
    assertThat(process.waitFor(30, TimeUnit.SECONDS)).isTrue();
    assertThat(process.exitValue()).isZero();
  }

  private PackagedDaemon start(String moreDevices) throws IOException {
    ProcessBuilder command =
        PackagedDaemon.command(
            directory,
            program,
            "unshare",
            "--mount",
            "sh",
            "-c",
            DEVICES + moreDevices + DROP,
            "sh");
    return PackagedDaemon.start(directory, command);
  }

  @Test
  void postcopyIsRefusedWithTheRemedyAndPlainLoadsWork() throws Exception {
    Path file = memoryFile();
    try (PackagedDaemon daemon = start("");
        QmpClient client = daemon.connect()) {
      assertThatThrownBy(() -> enable(client, "mapped-ram", "postcopy-ram", "events"))
          .isInstanceOf(QmpException.class)
          .hasMessage(
              "Postcopy is not supported: cannot create a userfaultfd: /dev/userfaultfd: ENOENT (No"
                  + " such file or directory); userfaultfd(2): EPERM (Operation not permitted). Any"
                  + " one of these grants it: (1) give this process the device node"
                  + " /dev/userfaultfd, which the kernel has but /dev does not show: for a"
                  + " container, --device /dev/userfaultfd; (2) sysctl"
                  + " vm.unprivileged_userfaultfd=1 (now 0); (3) CAP_SYS_PTRACE in the initial user"
                  + " namespace. Faults of user mode alone (UFFD_USER_MODE_ONLY) need no grant, but"
                  + " system calls and KVM could then not touch the memory.");
      enable(client, "mapped-ram", "events");
      load(client, file);
      assertThat(awaitMigration(client, "completed"))
          .containsExactly("setup", "active", "completed");
      Path secret = Files.writeString(directory.resolve("secret"), "");
      Files.setPosixFilePermissions(secret, PosixFilePermissions.fromString("---------"));
      assertThatThrownBy(() -> load(client, secret))
          .isInstanceOf(QmpException.class)
          .hasMessage("open of " + secret + ": EACCES (Permission denied)");
      assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
      assertThat(PackagedDaemon.errorOf(client))
          .isEqualTo("open of " + secret + ": EACCES (Permission denied)");
      assertThat(daemon.log())
          .contains(
              "self-test failed: a load with postcopy-ram will fail too. cannot create a userfaultfd");
    }
  }

  @Test
  void theDeviceIsAllThatALazyLoadNeeds() throws Exception {
    Path file = memoryFile();
    String device =
        "minor=$(sed -n 's/^ *\\([0-9]*\\) userfaultfd$/\\1/p' /proc/misc); "
            + "mknod -m 660 /dev/userfaultfd c 10 $minor; chgrp 65532 /dev/userfaultfd; ";
    try (PackagedDaemon daemon = start(device);
        QmpClient client = daemon.connect()) {
      enable(client, "mapped-ram", "postcopy-ram", "events");
      load(client, file);
      assertThat(awaitMigration(client, "completed"))
          .containsExactly("setup", "postcopy-device", "postcopy-active", "completed");
      disable(client, "postcopy-ram");
      load(client, file);
      assertThat(awaitMigration(client, "completed"))
          .containsExactly("setup", "active", "completed");
    }
  }

  @Test
  void theDemoSaysItInOneLine() throws Exception {
    Path error = directory.resolve("err");
    Process demo =
        new ProcessBuilder(
                "unshare",
                "--mount",
                "sh",
                "-c",
                DEVICES + DROP,
                "sh",
                program.resolve("bin/postcopyd").toString(),
                "demo",
                memoryFile().toString())
            .redirectOutput(directory.resolve("out").toFile())
            .redirectError(error.toFile())
            .start();
    assertThat(demo.waitFor(30, TimeUnit.SECONDS)).isTrue();
    assertThat(demo.exitValue()).isEqualTo(1);
    assertThat(Files.readAllLines(error))
        .last()
        .asString()
        .startsWith("postcopyd: Postcopy is not supported: cannot create a userfaultfd: ");
    assertThat(Files.readString(error)).doesNotContain("\tat ");
  }

  private Path memoryFile() throws IOException {
    Path file = directory.resolve("ram");
    try (RandomAccessFile out = new RandomAccessFile(file.toFile(), "rw")) {
      out.setLength(16 << 20);
    }
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("r--r--r--"));
    return file;
  }
}
