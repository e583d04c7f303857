package dev.postcopyd.container;

import static org.assertj.core.api.Assertions.assertThat;

import com.github.dockerjava.api.model.Capability;
import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import dev.postcopyd.lab.QmpConnection;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.testcontainers.containers.GenericContainer;

/**
 * A pod: a stock QEMU in one container and postcopyd in another one, each with a user of its own
 * and no capability, which share two directories, a group and a device node.
 */
@Timeout(value = 3, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class ResumeCT {
  private static final QemuOptions PC = QemuOptions.of("pc", 192, 96);
  private static final List<String> PAIR = List.of("mapped-ram", "postcopy-ram");

  /** So that there is a middle of a load. */
  private static final Map<String, ?> SLOWLY = Map.of("max-postcopy-bandwidth", 24 << 20);

  private static final long LIMIT_BYTES = 160L << 20;
  private static final int LARGE_MIB = 1024;

  private static ContainerLab lab;

  @TempDir static Path shared;
  @TempDir Path directory;

  private Pod pod;

  @BeforeAll
  @Timeout(value = 10, unit = TimeUnit.MINUTES)
  static void find() throws Exception {
    lab = ContainerLab.require();
    snapshot("running", true);
    snapshot("stopped", false);
  }

  private static void snapshot(String name, boolean running) throws Exception {
    try (QemuProcess source = QemuProcess.start(lab.lab(), PC, shared)) {
      source.console().awaitFilled();
      if (!running) {
        source.qmp().execute("stop");
      }
      source.save("file:" + shared.resolve(name), List.of("mapped-ram"));
      source.quit();
    }
  }

  @BeforeEach
  void make() throws Exception {
    pod = new Pod(directory);
  }

  @AfterEach
  void end() {
    pod.close();
  }

  /** The pod's own copy, which postcopyd may only read. */
  private Path snapshotOf(String name) throws IOException {
    Path copy = Files.copy(shared.resolve(name), pod.snapshots().resolve("vm.mr"));
    UnixSocket.chmod(copy, 0644);
    return copy;
  }

  private Path monitor() {
    return pod.sockets().resolve("monitor");
  }

  private Path socket() {
    return pod.sockets().resolve("qmp");
  }

  private GenericContainer<?> postcopyd(Pod.Options options, String... more) {
    String[] arguments =
        Stream.concat(
                Stream.of(
                    "run",
                    "--qmp",
                    "unix:" + socket() + ",mode=0660,group=" + Pod.GROUP,
                    "--guest",
                    "qemu:" + monitor()),
                Stream.of(more))
            .toArray(String[]::new);
    return pod.postcopyd(options, arguments);
  }

  /** The group may write to what QEMU makes: that is the umask. */
  private GenericContainer<?> qemu(Pod.Options options, String... more) throws Exception {
    return qemuAs(options.as(Pod.QEMU).with(pod.userfaultfd()), more);
  }

  private GenericContainer<?> qemuAs(Pod.Options options, String... more) {
    Stream<String> command =
        Stream.concat(
            Stream.of(
                lab.lab().qemu().toString(),
                "-accel",
                "tcg",
                "-cpu",
                "qemu64",
                "-nodefaults",
                "-display",
                "none",
                "-qmp",
                "unix:" + monitor() + ",server=on,wait=off"),
            Stream.of(more));
    return pod.program(
        options,
        List.of(lab.lab().kernel(), lab.lab().initramfs()),
        "/bin/sh",
        "-c",
        "umask 007; exec "
            + command.map(word -> "'" + word + "'").collect(Collectors.joining(" ")));
  }

  private GenericContainer<?> qemuWithGuest() throws Exception {
    return qemu(new Pod.Options(), guest());
  }

  private String[] guest() {
    return new String[] {
      "-M",
      "pc",
      "-m",
      PC.memoryMib() + "M",
      "-smp",
      "1",
      "-serial",
      "unix:" + pod.sockets().resolve("serial") + ",server=on,wait=off",
      "-kernel",
      lab.lab().kernel().toString(),
      "-initrd",
      lab.lab().initramfs().toString(),
      "-append",
      "console=ttyS0 quiet panic=-1 guest.data=" + PC.dataMib(),
      "-incoming",
      "defer"
    };
  }

  private GuestConsole console() throws IOException {
    return GuestConsole.on(pod.sockets().resolve("serial"));
  }

  /** QEMU may still be starting: the daemon waits for it. */
  private static void awaitQemu(QmpConnection qmp) throws Exception {
    while (true) {
      try {
        qmp.execute("query-status");
        return;
      } catch (dev.postcopyd.lab.QmpErrorReply notYet) {
        Thread.sleep(20);
      }
    }
  }

  private static void awaitCompleted(QmpConnection qmp) throws Exception {
    String status = "";
    while (!status.equals("completed")) {
      status = qmp.execute("query-migrate").path("status").asString("");
      assertThat(status).isNotEqualTo("failed");
      Thread.sleep(20);
    }
  }

  private static void assertWhole(GuestConsole console) throws Exception {
    console.awaitTick();
    GuestConsole.Verification verification = console.verifyAtRandom();
    assertThat(verification.bad()).isZero();
    assertThat(verification.pages()).isGreaterThan(PC.dataMib() * 256L - 1);
  }

  @Test
  void aSidecarResumesTheQemuBesideIt() throws Exception {
    Path snapshot = snapshotOf("running");
    GenericContainer<?> sidecar = postcopyd(new Pod.Options());
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      qemuWithGuest();
      awaitQemu(qmp);
      GuestConsole console = console();
      qmp.enableCapabilities(PAIR);
      qmp.execute("migrate-incoming", Map.of("uri", "file:" + snapshot));
      qmp.awaitMigration("completed");
      assertThat(qmp.migrationStatuses())
          .containsExactly("setup", "postcopy-device", "postcopy-active", "completed");
      assertWhole(console);
    }
    try (Stream<Path> left = Files.list(pod.sockets())) {
      assertThat(left.map(path -> path.getFileName().toString()))
          .noneMatch(name -> name.startsWith("postcopyd-"));
    }
    assertThat(sidecar.getLogs()).doesNotContain("ERROR");
    assertThat(pod.snapshots().resolve("vm.mr.ws")).as("the working set").exists();
  }

  /**
   * Nodes without the device: QEMU makes its userfaultfd by the system call, which the engine's own
   * profile refuses.
   */
  @Test
  void theSeccompProfileIsTheAlternativeToTheDevice() throws Exception {
    Path snapshot = snapshotOf("running");
    Path profile = lab.lab().root().resolve("helm/postcopyd/files/seccomp-userfaultfd.json");
    postcopyd(new Pod.Options(), "--incoming", "file:" + snapshot);
    qemuAs(
        new Pod.Options()
            .as(0)
            .adding(Capability.SYS_PTRACE, Capability.DAC_OVERRIDE)
            .seccomp(profile),
        guest());
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      awaitCompleted(qmp);
      assertWhole(console());
    }
  }

  /** In Kubernetes the snapshot may be on a volume that is mounted read-only. */
  @Test
  void theSidecarLoadsByItselfFromAPlaceWhereItMayNotWrite() throws Exception {
    Path snapshot = snapshotOf("running");
    UnixSocket.chmod(pod.snapshots(), 0555);
    GenericContainer<?> sidecar = postcopyd(new Pod.Options(), "--incoming", "file:" + snapshot);
    qemuWithGuest();
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      awaitCompleted(qmp);
      assertWhole(console());
    }
    Ending ending = Ending.stop(sidecar);
    assertThat(ending.exitCode()).isZero();
    assertThat(ending.took()).isLessThan(Duration.ofSeconds(5));
  }

  /**
   * The kubelet restarts a sidecar that has ended. The guest stands still here: one that runs may
   * fault while it holds QEMU's big lock, and then QEMU takes no new client of its monitor
   * (docs/adr/0013).
   */
  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void aSidecarThatEndsInMidPostcopyIsStartedAgainAndGoesOn(boolean crashes) throws Exception {
    Path snapshot = snapshotOf("stopped");
    GenericContainer<?> first = postcopyd(new Pod.Options());
    qemuWithGuest();
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      awaitQemu(qmp);
      qmp.execute("migrate-set-parameters", SLOWLY);
      qmp.enableCapabilities(PAIR);
      qmp.execute("migrate-incoming", Map.of("uri", "file:" + snapshot));
      qmp.awaitMigration("postcopy-active");
      Thread.sleep(200);
      if (crashes) {
        assertThat(Ending.kill(first).exitCode()).isEqualTo(137);
      } else {
        Ending ending = Ending.stop(first);
        assertThat(ending.exitCode()).as(first.getLogs()).isZero();
        assertThat(ending.took()).isLessThan(Duration.ofSeconds(9));
      }
    }
    postcopyd(new Pod.Options());
    try (QmpConnection qmp = QmpConnection.to(socket())) {
      awaitCompleted(qmp);
      GuestConsole console = console();
      qmp.execute("cont");
      assertWhole(console);
    }
  }

  /** Neither the pages nor the file's page cache are its own memory; the bitmaps are. */
  @Test
  void aGibibyteIsLoadedWithinA160MibLimit() throws Exception {
    Path memory = Files.createDirectory(Path.of("/dev/shm", directory.getFileName().toString()));
    UnixSocket.chmod(memory, 0777);
    try {
      Path source = memory.resolve("source");
      fill(source);
      Path snapshot = pod.snapshots().resolve("large.mr");
      saveStopped(memory, source, snapshot);
      GenericContainer<?> sidecar = postcopyd(new Pod.Options().memoryLimit(LIMIT_BYTES));
      Path destination = memory.resolve("destination");
      qemu(new Pod.Options().seeing(memory), machineOver(destination, "-incoming", "defer"));
      try (QmpConnection qmp = QmpConnection.to(socket())) {
        awaitQemu(qmp);
        qmp.enableCapabilities(PAIR);
        qmp.execute("migrate-incoming", Map.of("uri", "file:" + snapshot));
        qmp.awaitMigration("completed");
      }
      assertThat(Files.mismatch(source, destination)).isEqualTo(-1);
      assertThat(sidecar.isRunning()).as(sidecar.getLogs()).isTrue();
      assertThat(Ending.stop(sidecar))
          .extracting(Ending::exitCode, Ending::outOfMemory)
          .containsExactly(0L, false);
    } finally {
      pod.close();
      try (Stream<Path> files = Files.list(memory)) {
        for (Path file : files.toList()) {
          Files.delete(file);
        }
      }
      Files.delete(memory);
    }
  }

  /** Its RAM is a file, so that nobody has to run in it for there to be something. */
  private static String[] machineOver(Path memory, String... more) {
    return Stream.concat(
            Stream.of(
                "-M",
                "pc,memory-backend=ram",
                "-m",
                LARGE_MIB + "M",
                "-object",
                "memory-backend-file,id=ram,share=on,size=%dM,mem-path=%s"
                    .formatted(LARGE_MIB, memory),
                "-S"),
            Stream.of(more))
        .toArray(String[]::new);
  }

  private void saveStopped(Path directory, Path memory, Path snapshot) throws Exception {
    GenericContainer<?> source = qemu(new Pod.Options().seeing(directory), machineOver(memory));
    try (QmpConnection qmp = QmpConnection.to(monitor())) {
      qmp.enableCapabilities(List.of("mapped-ram"));
      qmp.execute("migrate-set-parameters", Map.of("max-bandwidth", 0));
      qmp.execute("migrate", Map.of("uri", "file:" + snapshot));
      qmp.awaitMigration("completed");
    }
    Ending _ = Ending.stop(source);
    Files.deleteIfExists(monitor());
    // QEMU makes it for its own user alone.
    UnixSocket.chmod(snapshot, 0640);
  }

  /** Every page is different, and none is zero. */
  private static void fill(Path file) throws IOException {
    ByteBuffer chunk = ByteBuffer.allocate(1 << 20);
    try (FileChannel out =
        FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      for (int mib = 0; mib < LARGE_MIB; mib++) {
        chunk.clear();
        while (chunk.hasRemaining()) {
          chunk.putLong((long) mib << 20 | chunk.position() | 1);
        }
        chunk.flip();
        while (chunk.hasRemaining()) {
          out.write(chunk);
        }
      }
    }
    UnixSocket.chmod(file, 0666);
  }
}
