package dev.postcopyd.container;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.lab.UffdGuest;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.testcontainers.containers.GenericContainer;
import tools.jackson.databind.JsonNode;

/**
 * What the chart's DaemonSet runs on a node, and VMMs in containers of their own that hand their
 * memory over to it: other users, no capabilities, nothing shared but the directory of the socket.
 */
@Timeout(value = 3, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class HandlerCT {
  private static final long BYTES = 64 << 20;
  private static final int GUESTS = 3;

  /** As in helm/postcopyd/templates/handler.yaml. */
  private static final String[] HOLDER = {
    "/opt/postcopyd/bin/postcopyd-hold",
    "--directory",
    "/dev/shm",
    "--",
    "/opt/postcopyd/jre/bin/java",
    "@/opt/postcopyd/image.options",
    "-jar",
    "/opt/postcopyd/lib/postcopyd.jar"
  };

  @TempDir Path directory;

  private Pod pod;
  private Path snapshot;

  @BeforeAll
  @Timeout(value = 10, unit = TimeUnit.MINUTES)
  static void find() throws Exception {
    var _ = ContainerLab.require();
  }

  @BeforeEach
  void make() throws Exception {
    pod = new Pod(directory);
    snapshot = UffdGuest.pattern(pod.snapshots().resolve("base.mem"), BYTES);
    var _ = Files.setPosixFilePermissions(snapshot, PosixFilePermissions.fromString("rw-r--r--"));
  }

  @AfterEach
  void end() {
    pod.close();
  }

  private Path socket() {
    return pod.sockets().resolve("vmm.sock");
  }

  private Path qmp() {
    return pod.sockets().resolve("qmp.sock");
  }

  private GenericContainer<?> handler(String options) throws Exception {
    String group = ",mode=0660,group=" + Pod.GROUP;
    GenericContainer<?> handler =
        pod.postcopyd(
            new Pod.Options().entrypoint(HOLDER),
            "run",
            "--qmp",
            "unix:" + qmp() + group,
            "--guest",
            "uffd:" + socket() + group + options,
            "--incoming",
            "file:" + snapshot);
    while (!Files.exists(socket())) {
      assertThat(handler.isRunning()).as(handler.getLogs()).isTrue();
      Thread.sleep(20);
    }
    return handler;
  }

  /**
   * Touches every page at random and looks at it; long enough for something to happen meanwhile.
   */
  private GenericContainer<?> guest(int number, String... more) throws Exception {
    return vmm(
        new Pod.Options().as(Pod.QEMU + number).with(pod.userfaultfd()), command(number, more));
  }

  private List<String> command(int number, String... more) {
    List<String> command =
        new ArrayList<>(
            List.of(
                UffdGuest.program().toString(),
                "--file",
                snapshot.toString(),
                "--region",
                "size=" + BYTES,
                "--seed",
                Integer.toString(number),
                "--delay-ms",
                "1500",
                "--verify-rest",
                "--timeout",
                "120"));
    command.addAll(List.of(more));
    command.add(socket().toString());
    return command;
  }

  private GenericContainer<?> vmm(Pod.Options options, List<String> command) {
    return pod.program(
        options, List.of(UffdGuest.program().getParent()), command.toArray(String[]::new));
  }

  private static void assertRight(GenericContainer<?> guest) throws Exception {
    while (guest.isRunning()) {
      Thread.sleep(50);
    }
    assertThat(guest.getLogs()).contains("\"wrong-pages\":0");
    assertThat(guest.getCurrentContainerInfo().getState().getExitCodeLong()).isZero();
  }

  @Test
  void vmmsOfOtherUsersAreServedFromOneSnapshot() throws Exception {
    GenericContainer<?> handler = handler("");
    List<GenericContainer<?>> guests = new ArrayList<>();
    for (int i = 0; i < GUESTS; i++) {
      guests.add(guest(i));
    }
    for (GenericContainer<?> guest : guests) {
      assertRight(guest);
    }
    assertThat(handler.getLogs()).contains("uid=" + Pod.QEMU).doesNotContain("ERROR");
    assertThat(Ending.stop(handler).exitCode()).isZero();
    assertThat(socket()).doesNotExist();
  }

  /**
   * A VMM whose memory only its own threads touch needs faults of user mode alone, and for these no
   * device and no right, where the profile that is shipped lets the system call through.
   */
  @Test
  void theSeccompProfileIsTheAlternativeToTheDevice() throws Exception {
    GenericContainer<?> handler = handler("");
    Path profile =
        ContainerLab.require()
            .lab()
            .root()
            .resolve("helm/postcopyd/files/seccomp-userfaultfd.json");
    assertRight(vmm(new Pod.Options().as(Pod.QEMU).seccomp(profile), command(0)));
    assertThat(handler.getLogs()).doesNotContain("ERROR");
  }

  /**
   * The kernel kills it for memory, for example: the holder starts it again, with what it has kept.
   */
  @Test
  void aCrashOfTheHandlerIsSurvived() throws Exception {
    // Only what is touched, so that the guest depends on it to the end.
    GenericContainer<?> handler = handler(",eager=off");
    GenericContainer<?> guest = guest(0, "--pause-us", "100");
    awaitGuest();
    long holder = Objects.requireNonNull(handler.getCurrentContainerInfo().getState().getPidLong());
    ProcessHandle daemon =
        ProcessHandle.of(holder).orElseThrow().children().findFirst().orElseThrow();
    assertThat(daemon.destroyForcibly()).isTrue();

    assertRight(guest);
    assertThat(handler.isRunning()).isTrue();
    assertThat(handler.getLogs()).contains("postcopyd-hold: ");
  }

  private void awaitGuest() throws Exception {
    try (QmpConnection client = QmpConnection.to(qmp())) {
      while (true) {
        JsonNode guests = client.execute("__dev.postcopyd_query-guests");
        if (guests.size() == 1
            && guests.get(0).path("status").asString("").equals("postcopy-active")) {
          return;
        }
        Thread.sleep(20);
      }
    }
  }
}
