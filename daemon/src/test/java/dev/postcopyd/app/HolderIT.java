package dev.postcopyd.app;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** {@code postcopyd-hold} alone, with a daemon that does what it is told. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class HolderIT {
  private static final int KILLED = 128 + 9;
  private static final int ABORTED = 128 + 6;
  private static final Map<String, Integer> SIGNALS = Map.of("TERM", 15, "INT", 2, "HUP", 1);

  @TempDir Path directory;

  private final List<HeldDaemon> running = new ArrayList<>();

  @AfterEach
  void endAll() {
    running.forEach(HeldDaemon::close);
  }

  private HeldDaemon start(String... options) throws IOException {
    HeldDaemon held = HeldDaemon.start(directory, options);
    running.add(held);
    return held;
  }

  private void assertNothingLeft() throws IOException {
    try (Stream<Path> files = Files.list(directory)) {
      assertThat(files.map(Path::getFileName).map(Path::toString))
          .noneMatch(name -> name.startsWith("postcopyd-hold."));
    }
  }

  @Test
  void keepsDescriptorsInOrderAndByNameOverAKill() throws Exception {
    HeldDaemon held = start();
    assertThat(held.passed()).as("nothing at first").isEmpty();
    held.store("g1.uffd", "one");
    held.store("g1.state", "two");
    held.store("g2.uffd", "three");
    held.store("g1.state", "four");
    for (int kill = 0; kill < 3; kill++) {
      long before = held.pid();
      held.killDaemon();
      held.awaitStart();
      assertThat(held.pid()).isNotEqualTo(before);
      assertThat(held.passed())
          .containsExactly("g1.uffd=one", "g1.state=two", "g2.uffd=three", "g1.state=four");
    }
    held.tell("remove g1.state");
    held.store("g3.uffd", "five");
    held.tell("abort");
    held.awaitStart();
    assertThat(held.passed()).containsExactly("g1.uffd=one", "g2.uffd=three", "g3.uffd=five");
    assertThat(held.end("exit 0")).isZero();
    assertNothingLeft();
  }

  /** What the daemon sent last counts, although it died right after. */
  @Test
  void keepsWhatWasSentRightBeforeTheEnd() throws Exception {
    HeldDaemon held = start();
    for (int i = 0; i < 20; i++) {
      held.tell("store last file" + i);
    }
    held.tell("abort");
    held.awaitStart();
    assertThat(held.passed()).hasSize(20).startsWith("last=file0").endsWith("last=file19");
    assertThat(held.end("exit 0")).isZero();
  }

  @Test
  void aNameThatIsRemovedIsClosed() throws Exception {
    HeldDaemon held = start();
    held.store("one", "a");
    held.store("two", "b");
    held.store("two", "b2");
    assertThat(held.openFiles()).contains("a", "b", "b2");
    held.tell("remove one");
    held.barrier();
    assertThat(held.openFiles()).contains("b", "b2").doesNotContain("a");
    held.tell("raw FDSTOREREMOVE=1\\nFDNAME=two\\n");
    held.barrier();
    assertThat(held.openFiles()).doesNotContain("b", "b2");
    assertThat(held.end("exit 0")).isZero();
  }

  @Test
  void aDescriptorBeyondTheLimitIsNotHeldAndThatIsSaid() throws Exception {
    HeldDaemon held = start("--fds", "3");
    assertThat(held.ask("environment FDSTORE")).isEqualTo("3");
    for (int i = 0; i < 5; i++) {
      held.store("g" + i, "file" + i);
    }
    assertThat(held.log())
        .contains("g3 is not held: there are 3 descriptors, which is the limit (--fds)")
        .contains("g4 is not held");
    assertThat(held.openFiles()).doesNotContain("file3", "file4");
    held.tell("remove g0");
    held.store("g5", "file5");
    held.tell("abort");
    held.awaitStart();
    assertThat(held.passed()).containsExactly("g1=file1", "g2=file2", "g5=file5");
    assertThat(held.end("exit 0")).isZero();
  }

  @Test
  void endsAsTheDaemonEndsByItself() throws Exception {
    assertThat(start().end("exit 0")).isZero();
    assertThat(start().end("exit 1")).as("failed, with nothing held").isOne();
    HeldDaemon held = start();
    held.store("g1", "a");
    assertThat(held.end("exit 2")).as("a wrong command line").isEqualTo(2);
    held = start();
    held.store("g1", "a");
    assertThat(held.end("exit 0")).as("a good end needs nothing held").isZero();
    assertNothingLeft();
  }

  @Test
  void aFailureIsTriedAgainWhileSomethingIsHeld() throws Exception {
    HeldDaemon held = start();
    held.store("g1", "a");
    held.tell("exit 1");
    held.awaitStart();
    assertThat(held.passed()).containsExactly("g1=a");
    held.tell("remove g1");
    held.barrier();
    assertThat(held.end("exit 1")).isOne();
  }

  @Test
  void aCommandThatCannotBeStartedIsTriedOnce() throws Exception {
    String holder = HeldDaemon.holder().toString();
    assertThat(run(holder, "/nowhere/postcopyd"))
        .isEqualTo(
            "postcopyd-hold: /nowhere/postcopyd cannot be started: No such file or directory 127");
    assertThat(run(holder, "--fds", "many", "true"))
        .isEqualTo("postcopyd-hold: 'many' is not a number from 0 to 4096 2");
    assertThat(run(holder)).startsWith("postcopyd-hold [OPTIONS]").endsWith(" 2");
  }

  /** Answers what the program says, and its exit code. */
  private String run(String... command) throws IOException, InterruptedException {
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), UTF_8);
    assertThat(process.waitFor(10, TimeUnit.SECONDS)).isTrue();
    return said.strip() + " " + process.exitValue();
  }

  @Test
  void signalsGoOnToTheDaemonWhoseEndIsTheEnd() throws Exception {
    for (Map.Entry<String, Integer> signal : SIGNALS.entrySet()) {
      HeldDaemon held = start();
      held.store("g1", "a");
      held.signal(signal.getKey());
      assertThat(held.awaitExit()).isEqualTo(128 + signal.getValue());
    }
    assertNothingLeft();
    HeldDaemon stubborn = start();
    stubborn.store("g1", "a");
    assertThat(stubborn.ask("ignore-term")).isEqualTo("ignoring");
    stubborn.signal("TERM");
    assertThat(stubborn.line()).isEqualTo("terminated");
    assertThat(stubborn.isAlive()).isTrue();
    stubborn.killDaemon();
    assertThat(stubborn.awaitExit())
        .as("who was asked to end is not started again")
        .isEqualTo(KILLED);
  }

  /** Without the descriptors, its VMM would find zeros where the guest's memory was. */
  @Test
  void givesUpAfterTooManyDeathsAndKillsWhoseMemoryIsLost() throws Exception {
    HeldDaemon held = start("--restarts", "3");
    long connected = Long.parseLong(held.ask("pair g1.conn"));
    long other = Long.parseLong(held.ask("pair qmp"));
    held.barrier();
    long before = System.nanoTime();
    for (int death = 0; death < 3; death++) {
      held.tell("abort");
      held.awaitStart();
    }
    assertThat(Duration.ofNanos(System.nanoTime() - before))
        .as("0, 100 and 200 ms of pause")
        .isGreaterThan(Duration.ofMillis(300));
    assertThat(held.end("abort")).isEqualTo(ABORTED);
    assertThat(held.log())
        .contains("it has died 4 times in a row within 10 s of its start: giving up")
        .contains("killed process " + connected + " (g1.conn), whose memory nobody serves any more")
        .doesNotContain("process " + other);
    ProcessHandle.of(other).ifPresent(ProcessHandle::destroyForcibly);
    assertNothingLeft();
  }

  @Test
  void passesOverWhatItIsNotToldByTheDaemonOrDoesNotKnow() throws Exception {
    HeldDaemon held = start();
    held.store("g1", "a");
    Path socket = Path.of(held.ask("environment NOTIFY_SOCKET"));
    assertThat(Files.getPosixFilePermissions(socket.getParent())).as("rwx------").hasSize(3);
    ProcessBuilder command = new ProcessBuilder(HeldDaemon.program().toString());
    command.environment().put("NOTIFY_SOCKET", socket.toString());
    Process stranger = command.redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
    stranger.outputWriter().append("remove g1\n").close();
    assertThat(stranger.waitFor(10, TimeUnit.SECONDS)).isTrue();
    held.tell("raw FDSTORE=1\\nFDNAME=none");
    held.tell("raw FDSTOREREMOVE=1\\nFDNAME=a/b");
    held.tell("raw " + "x".repeat(900));
    held.tell("raw READY=1\\nSTATUS=serving");
    held.barrier();
    assertThat(held.log())
        .contains("a message of process " + stranger.pid() + " is passed over")
        .contains("FDSTORE=1 for none came without a descriptor")
        .contains("a name has up to 64 letters, digits, dots, dashes and underscores: 'a/b'");
    held.tell("abort");
    held.awaitStart();
    assertThat(held.passed()).containsExactly("g1=a");
    assertThat(held.end("exit 0")).isZero();
  }

  /** What a service manager has opened for the daemon comes first, and stays. */
  @Test
  void passesOnWhatItWasPassedItself() throws Exception {
    Files.createFile(directory.resolve("listening"));
    String script =
        "exec 3<listening; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=qmp exec %s -- %s"
            .formatted(HeldDaemon.holder(), HeldDaemon.program());
    HeldDaemon held = HeldDaemon.startAs(directory, List.of("sh", "-c", script));
    running.add(held);
    assertThat(held.passed()).containsExactly("qmp=listening");
    held.store("g1", "a");
    held.tell("remove qmp");
    held.barrier();
    held.tell("abort");
    held.awaitStart();
    assertThat(held.passed()).containsExactly("qmp=listening", "g1=a");
    assertThat(held.end("exit 0")).isZero();
  }

  @Test
  void holdsAsManyAsItsOwnLimitOfOpenFilesAllows() throws Exception {
    String script =
        "ulimit -n 320; exec %s -- %s".formatted(HeldDaemon.holder(), HeldDaemon.program());
    HeldDaemon held = HeldDaemon.startAs(directory, List.of("sh", "-c", script));
    running.add(held);
    assertThat(held.ask("environment FDSTORE")).isEqualTo("16");
    for (int i = 0; i < 18; i++) {
      held.store("g" + i, "file" + i);
    }
    assertThat(held.log())
        .contains("at most 16 descriptors can be held: the limit of open files is 320")
        .contains("g16 is not held");
    held.tell("abort");
    held.awaitStart();
    assertThat(held.passed()).hasSize(16).endsWith("g15=file15");
    assertThat(held.end("exit 0")).isZero();
  }

  @Test
  void isTheFirstProcessOfAContainer() throws Exception {
    HeldDaemon held =
        HeldDaemon.startAs(
            directory,
            List.of(
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                HeldDaemon.holder().toString(),
                "--",
                HeldDaemon.program().toString()));
    running.add(held);
    assertThat(held.pid()).as("in its own namespace").isEqualTo(2);
    String orphan = held.ask("orphan");
    assertThat(held.ask("await-gone " + orphan)).isEqualTo("gone");
    held.store("g1", "a");
    held.tell("abort");
    held.awaitStart();
    assertThat(held.passed()).containsExactly("g1=a");
    assertThat(held.end("exit 0")).isZero();
  }
}
