package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.PostcopydProcess;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/**
 * The same two snapshots resumed again and again by the packaged program, each time another way:
 * the guest goes through its memory in order or at random, with a recording of the resumes before
 * or without, with a channel of its own for faults or without, running or paused when it was saved,
 * through {@code qemu:} and {@code stream:}; and the daemon is killed up to twice, at random
 * moments after RUN. Each time the guest checks every page of its memory: while it arrives, and
 * once more when all of it is there.
 *
 * <p>{@code -Dpostcopyd.soak=N} says how many resumes there are, {@code -Dpostcopyd.soak.first=N}
 * with which one it begins, {@code -Dpostcopyd.soak.seed=N} chooses the moments; {@code
 * scripts/test --soak N} says the first of them.
 */
class ResumeSoakE2E {
  private static final int RESUMES = Integer.getInteger("postcopyd.soak", 10);
  private static final int FIRST = Integer.getInteger("postcopyd.soak.first", 0);
  private static final long SEED = Long.getLong("postcopyd.soak.seed", 1);

  private static final QemuOptions MACHINE = QemuOptions.of("pc", 128, 40);
  private static final long PAGES = (40 + 8 + 8 + 8) * 256L;

  /** Slow enough to be killed on the way. */
  private static final Map<String, ?> SLOWLY = Map.of("max-postcopy-bandwidth", 32 << 20);

  /** The first pages are the kernel's; later on it is mostly the check that waits. */
  private static final int EARLY_MILLIS = 60;

  private static final int LATE_MILLIS = 700;
  private static final Duration PATIENCE = Duration.ofSeconds(40);

  private static final AtomicInteger KILLS = new AtomicInteger();
  private static final AtomicInteger RECOVERIES = new AtomicInteger();

  /** Resumes with a recovery on the killed daemon's session (docs/adr/0013). */
  private static final AtomicInteger RESCUES = new AtomicInteger();

  private static QemuLab lab;
  private static Path snapshots;

  /** For sockets: their paths must be short. */
  @TempDir Path directory;

  private enum Saved {
    RUNNING,
    PAUSED
  }

  /**
   * One way to resume.
   *
   * @param random in which order the guest goes through its memory
   * @param recording whether earlier resumes are made use of, and this one is recorded
   */
  private record Way(
      int number,
      Saved saved,
      boolean stream,
      boolean random,
      boolean recording,
      boolean preempt,
      int kills) {
    /** Every pair of choices comes up within 24 resumes. */
    static Way of(int number) {
      return new Way(
          number,
          (number / 2) % 2 == 0 ? Saved.RUNNING : Saved.PAUSED,
          number % 5 == 4,
          number % 2 == 1,
          (number / 4) % 2 == 0,
          (number / 3) % 2 == 0,
          new int[] {0, 1, 2}[number % 3]);
    }

    @Override
    public String toString() {
      return number
          + (stream ? ": stream, " : ": qemu, ")
          + (saved == Saved.RUNNING ? "running, " : "paused, ")
          + (random ? "at random, " : "in order, ")
          + (recording ? "recording, " : "no recording, ")
          + (preempt ? "preempt, " : "no preempt, ")
          + kills
          + " kills";
    }
  }

  @BeforeAll
  static void save() throws Exception {
    lab = QemuLab.require();
    snapshots = Files.createTempDirectory(lab.root().resolve("daemon/target"), "soak");
    Path sockets = Files.createTempDirectory("soak");
    try (QemuProcess source = QemuProcess.start(lab, MACHINE, sockets)) {
      source.console().awaitFilled();
      source.save(uri(Saved.RUNNING), List.of("mapped-ram"));
      while (!source
          .qmp()
          .execute("query-status")
          .path("status")
          .asString()
          .equals("postmigrate")) {
        Thread.sleep(5);
      }
      source.qmp().execute("cont");
      source.console().awaitTick();
      source.qmp().execute("stop");
      source.save(uri(Saved.PAUSED), List.of("mapped-ram"));
      source.quit();
    } finally {
      deleteTree(sockets);
    }
  }

  @AfterAll
  static void delete() throws IOException {
    if (snapshots != null) {
      deleteTree(snapshots);
    }
  }

  private static void deleteTree(Path directory) throws IOException {
    try (Stream<Path> files = Files.walk(directory)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  private static String uri(Saved saved) {
    return "file:" + snapshots.resolve(saved + ".mr");
  }

  @TestFactory
  Stream<DynamicTest> theGuestFindsEveryPageAfterEveryResume() {
    return Stream.concat(
        IntStream.range(FIRST, FIRST + RESUMES)
            .mapToObj(Way::of)
            .map(way -> DynamicTest.dynamicTest(way.toString(), () -> new Resume(way).run())),
        Stream.of(DynamicTest.dynamicTest("most kills hit a load", this::mostKillsHitALoad)));
  }

  /** Else it would all have been for nothing. */
  private void mostKillsHitALoad() {
    System.out.printf(
        "soak: seed %d, resumes %d to %d, %d kills, %d recoveries; %d resumes on the session of a killed daemon%n",
        SEED, FIRST, FIRST + RESUMES - 1, KILLS.get(), RECOVERIES.get(), RESCUES.get());
    assertThat(RECOVERIES.get()).isGreaterThanOrEqualTo(KILLS.get() / 2);
  }

  private final class Resume {
    private final Way way;
    private final Random random;
    private final Path home;
    private final Path migration;
    private final Path monitor;
    private final StringBuilder story = new StringBuilder();
    private @Nullable PostcopydProcess current;

    Resume(Way way) throws IOException {
      this.way = way;
      this.random = new Random(SEED * 1_000_003 + way.number());
      this.home = Files.createDirectory(directory.resolve("r" + way.number()));
      this.migration = home.resolve("mig");
      this.monitor = home.resolve("mon");
    }

    void run() throws Exception {
      try (QemuProcess qemu =
          QemuProcess.start(
              lab,
              MACHINE.with("-incoming", "defer", "-qmp", "unix:" + monitor + ",server=on,wait=off"),
              home)) {
        current = start(true);
        try {
          begin(qemu);
          awaitGuest(qemu);
          qemu.console().beginVerification(way.random());
          for (int kill = 0; kill < way.kills(); kill++) {
            killAndRecover(qemu);
          }
          awaitCompleted(qemu);
          assertWhole(qemu.console().awaitVerified());
          assertWhole(qemu.console().verify());
          KILLS.addAndGet(way.kills());
          RECOVERIES.addAndGet(
              Collections.frequency(qemu.qmp().migrationStatuses(), "postcopy-recover"));
          if (story(qemu).contains("through the session of the daemon that has ended")) {
            RESCUES.incrementAndGet();
          }
          qemu.quit();
        } catch (Exception | AssertionError e) {
          e.addSuppressed(new IOException(story(qemu)));
          throw e;
        } finally {
          daemon().close();
        }
      }
    }

    private PostcopydProcess daemon() {
      return Objects.requireNonNull(current);
    }

    private PostcopydProcess start(boolean first) throws Exception {
      List<String> options = new ArrayList<>();
      options.add("--guest");
      if (way.stream()) {
        options.add("stream:unix:" + migration);
      } else {
        options.add("qemu:" + monitor + (way.preempt() ? "" : ",preempt=off"));
      }
      if (!way.recording()) {
        options.addAll(List.of("--working-set", "off"));
      }
      if (!first && !way.stream() && random.nextBoolean()) {
        // Else it finds what the first one has left behind.
        options.addAll(List.of("--incoming", uri(way.saved())));
      }
      return PostcopydProcess.runIn(lab, home, options.toArray(String[]::new));
    }

    private void begin(QemuProcess qemu) throws Exception {
      List<String> theirs =
          way.preempt() ? List.of("postcopy-ram", "postcopy-preempt") : List.of("postcopy-ram");
      List<String> ours = new ArrayList<>(way.stream() ? theirs : List.of("postcopy-ram"));
      ours.add("mapped-ram");
      if (way.kills() > 0) {
        daemon().qmp().execute("migrate-set-parameters", SLOWLY);
      }
      daemon().qmp().enableCapabilities(ours);
      if (way.stream()) {
        qemu.qmp().enableCapabilities(theirs);
        qemu.qmp().execute("migrate-incoming", Map.of("uri", "unix:" + migration));
      }
      daemon().qmp().execute("migrate-incoming", Map.of("uri", uri(way.saved())));
    }

    /** Returns when the guest runs, or can. */
    private void awaitGuest(QemuProcess qemu) throws Exception {
      if (way.saved() == Saved.RUNNING || way.stream()) {
        // A destination that nobody stops starts its guest.
        qemu.qmp().awaitEvent("RESUME");
      } else {
        daemon().qmp().awaitMigration("postcopy-active");
        daemon().qmp().execute("cont");
      }
    }

    private void killAndRecover(QemuProcess qemu) throws Exception {
      Thread.sleep(random.nextInt(random.nextBoolean() ? EARLY_MILLIS : LATE_MILLIS));
      daemon().close();
      story.append(daemon().story()).append("--- killed, QEMU says ");
      story.append(qemu.qmp().migrationStatuses()).append('\n');
      current = start(false);
      if (way.stream()) {
        recoverStream(qemu);
      }
    }

    private void recoverStream(QemuProcess qemu) throws Exception {
      while (!lastStatus(qemu).equals("postcopy-paused")) {
        if (lastStatus(qemu).equals("completed")) {
          return;
        }
        Thread.sleep(5);
      }
      daemon().qmp().execute("migrate-set-parameters", SLOWLY);
      Path socket = home.resolve("again" + random.nextInt());
      Map<String, ?> uri = Map.of("uri", "unix:" + socket);
      qemu.qmp().executeOutOfBand("migrate-recover", uri);
      daemon().qmp().execute("migrate-recover", uri);
    }

    private void awaitCompleted(QemuProcess qemu) throws Exception {
      long deadlineNanos = System.nanoTime() + PATIENCE.toNanos();
      while (!lastStatus(qemu).equals("completed")) {
        assertThat(System.nanoTime()).as("patience").isLessThan(deadlineNanos);
        Thread.sleep(5);
      }
      while (!daemon()
          .qmp()
          .execute("query-migrate")
          .path("status")
          .asString()
          .equals("completed")) {
        assertThat(System.nanoTime()).as("patience").isLessThan(deadlineNanos);
        Thread.sleep(5);
      }
    }

    private String story(QemuProcess qemu) {
      return story
          + daemon().story()
          + "--- QEMU says "
          + qemu.qmp().migrationStatuses()
          + "\n"
          + qemu.threads();
    }
  }

  private static String lastStatus(QemuProcess qemu) {
    List<String> statuses = qemu.qmp().migrationStatuses();
    return statuses.isEmpty() ? "" : statuses.getLast();
  }

  private static void assertWhole(GuestConsole.Verification verification) {
    assertThat(verification.bad()).as("%s", verification).isZero();
    assertThat(verification.pages()).isEqualTo(PAGES);
  }
}
