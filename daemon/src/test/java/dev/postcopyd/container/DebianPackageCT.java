package dev.postcopyd.container;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * The Debian package, installed by dpkg into a copy of this machine: an overlay over its root, in a
 * name space of its own, which is gone afterwards.
 */
@Timeout(value = 10, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class DebianPackageCT {
  private static final String COPY_OF_THIS_MACHINE =
      """
      set -eu
      mount --make-rprivate /
      mount -t tmpfs -o mode=755 none "$1"
      mkdir "$1/upper" "$1/work" "$1/root"
      mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
      mount -t proc proc "$1/root/proc"
      mount --bind /dev "$1/root/dev"
      mount -t tmpfs -o mode=755 none "$1/root/run"
      mount -t tmpfs -o mode=1777 none "$1/root/tmp"
      cp "$2" "$1/root/tmp/postcopyd.deb"
      exec chroot "$1/root" sh -eux -c "$3"
      """;

  @TempDir Path directory;

  /** Of the program that this very build has made; not compressed, which is what takes long. */
  private Path build() throws Exception {
    ContainerLab lab = ContainerLab.require();
    ContainerLab.run(
        3,
        lab.lab().root().resolve("scripts/package").toString(),
        "--built",
        "--compression",
        "none",
        "--output",
        directory.toString());
    try (Stream<Path> files = Files.list(directory)) {
      return files
          .filter(file -> file.toString().endsWith(".deb"))
          .findFirst()
          .orElseThrow(() -> new IOException("scripts/package has made nothing"));
    }
  }

  private String inACopyOfThisMachine(String script) throws Exception {
    Path deb = build();
    Path root = Files.createDirectory(directory.resolve("machine"));
    Path log = directory.resolve("log");
    Process process =
        new ProcessBuilder(
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                COPY_OF_THIS_MACHINE,
                "sh",
                root.toString(),
                deb.toString(),
                script)
            .redirectErrorStream(true)
            .redirectOutput(log.toFile())
            .start();
    boolean ended = process.waitFor(3, TimeUnit.MINUTES);
    process.destroyForcibly();
    assertThat(ended && process.exitValue() == 0).as(Files.readString(log)).isTrue();
    return Files.readString(log);
  }

  @Test
  void itIsInstalledServesBySystemdsSocketAndGoesAwayAgain() throws Exception {
    String log =
        inACopyOfThisMachine(
            """
            dpkg --install /tmp/postcopyd.deb
            getent passwd postcopyd
            test "$(stat -c %a:%U:%G /run/postcopyd)" = 2770:postcopyd:postcopyd
            postcopyd --version
            # Its own runtime, and the cache made for it: without a fit one the JVM would end here.
            POSTCOPYD_JAVA_OPTIONS=-XX:AOTMode=on setpriv --reuid postcopyd --regid postcopyd --init-groups postcopyd --version
            systemd-analyze verify --man=no postcopyd@vm1.service postcopyd@vm1.socket 2>&1 | tee /tmp/verified
            test ! -s /tmp/verified
            dpkg --verify postcopyd

            # As the unit starts it, by the socket that systemd opens.
            command=$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/postcopyd@.service | sed 's/ \\$POSTCOPYD_OPTIONS//')
            setpriv --reuid postcopyd --regid postcopyd --init-groups \
              systemd-socket-activate --listen=/run/postcopyd/vm1.qmp $command &
            while [ ! -S /run/postcopyd/vm1.qmp ]; do sleep 0.1; done
            python3 - <<'EOC'
            import socket
            client = socket.socket(socket.AF_UNIX)
            client.connect("/run/postcopyd/vm1.qmp")
            lines = client.makefile("rw")
            print(lines.readline())
            for command in "qmp_capabilities", "quit":
                lines.write('{"execute":"%s"}\\n' % command)
                lines.flush()
                print(lines.readline())
            EOC
            wait

            dpkg --remove postcopyd
            test ! -e /usr/bin/postcopyd
            test -e /etc/postcopyd/example.conf
            dpkg --purge postcopyd
            test ! -e /etc/postcopyd
            """);
    assertThat(log)
        .contains("postcopyd 0.")
        .contains("\"package\": \"postcopyd")
        .contains("{\"return\": {}}");
  }
}
