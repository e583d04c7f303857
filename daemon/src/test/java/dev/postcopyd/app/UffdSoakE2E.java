package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.UffdGuest;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/**
 * Four clones of one snapshot that touch, write and remove at random for as long as {@code
 * -Dpostcopyd.soak.seconds} says, while the program is killed again and again: every page is right,
 * and in the end nothing that was theirs is left.
 *
 * <p>Clones come and go: each lives for half a minute at most. Kills come in the first half of each
 * round; what is left of it afterwards is counted in the same process before and after.
 */
@Timeout(value = 3_600, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class UffdSoakE2E {
  private static final int CLONES = 4;
  private static final long SECONDS = Long.getLong("postcopyd.soak.seconds", 10);
  private static final long ROUND_SECONDS = 30;
  private static final long KILL_EVERY_MILLIS = 2_500;

  @TempDir Path directory;

  private long removed;
  private long verified;

  @Test
  void everyPageIsRightAndNothingIsLeft() throws Exception {
    Path snapshot = UffdGuest.pattern(directory.resolve("ram"), 128L << 20);
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);
    try (HeldProgram program = HeldProgram.start(directory, snapshot, "")) {
      Map<String, Integer> heldAtFirst = HeldProgram.openDescriptors(program.holderPid());
      for (int round = 0; System.nanoTime() < end; round++) {
        long seconds = Math.min(ROUND_SECONDS, SECONDS);
        round(program, round, seconds, true);
        // The successor of the last kill has served nobody from the start: what one round makes
        // once and for all is there after it, and a second one adds nothing.
        round(program, round, 2, false);
        Left before = Left.in(program);
        round(program, round, Math.max(3, seconds / 3), false);
        assertThat(Left.in(program).compareTo(before)).as("left after a round").isEqualTo("");
        assertThat(HeldProgram.openDescriptors(program.holderPid())).isEqualTo(heldAtFirst);
      }
    }
    System.out.println("soak: " + verified + " pages checked, " + removed + " removed");
    assertThat(removed).isGreaterThan(1_000);
  }

  private void round(HeldProgram program, int round, long seconds, boolean kills) throws Exception {
    List<UffdGuest> clones = new ArrayList<>();
    try {
      for (int i = 0; i < CLONES; i++) {
        clones.add(clone(program, round * CLONES + i, seconds));
      }
      long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
      while (kills && System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(KILL_EVERY_MILLIS) < end) {
        TimeUnit.MILLISECONDS.sleep(KILL_EVERY_MILLIS);
        program.killProgram();
      }
      for (UffdGuest clone : clones) {
        JsonNode report = clone.report();
        assertThat(clone.awaitExit()).as(clone.story() + report).isEqualTo(UffdGuest.RIGHT);
        assertThat(report.path("wrong-pages").asLong(-1)).isZero();
        verified += report.path("verified-pages").asLong();
        removed += report.path("removed-pages").asLong();
      }
      program.awaitGuests("all are gone", List::isEmpty);
      TimeUnit.MILLISECONDS.sleep(300);
    } finally {
      clones.forEach(UffdGuest::close);
    }
  }

  /** Of four kinds in turn: memory of both kinds, one mapping or several, with a forked child. */
  private static UffdGuest clone(HeldProgram program, int number, long seconds) throws Exception {
    List<String> arguments =
        new ArrayList<>(
            List.of(
                "--seed",
                Integer.toString(number),
                "--seconds",
                Long.toString(seconds),
                "--timeout",
                Long.toString(seconds + 60),
                "--threads",
                "2",
                "--write",
                "10",
                "--remove",
                "20",
                "--remove-pages",
                "8",
                "--pause-us",
                "100",
                "--verify-rest"));
    switch (number % CLONES) {
      case 0 -> arguments.addAll(List.of("--region", "size=128M", "--order", "zipf:1"));
      case 1 -> arguments.addAll(List.of("--region", "size=128M,backing=memfd"));
      case 2 -> arguments.addAll(List.of("--region", "size=48M", "--region", "size=80M"));
      default ->
          arguments.addAll(
              List.of("--region", "size=128M", "--forks", "1", "--remaps", "4", "--unmaps", "2"));
    }
    return program.guest(arguments.toArray(String[]::new));
  }

  /** What the program has at a time when it serves nobody. */
  private record Left(long pid, Map<String, Integer> descriptors, int threads, int mappings) {
    /** The JVM makes and ends threads and maps of its own. */
    private static final int SLACK = 6;

    static Left in(HeldProgram program) throws Exception {
      long pid = program.program().pid();
      return new Left(
          pid,
          HeldProgram.openDescriptors(pid),
          HeldProgram.threads(pid),
          HeldProgram.mappings(pid));
    }

    /** What there is more than before, empty if nothing. */
    String compareTo(Left before) {
      StringBuilder more = new StringBuilder();
      if (pid != before.pid) {
        more.append("another process; ");
      }
      descriptors.forEach((name, count) -> {
        if (count > before.descriptors.getOrDefault(name, 0)) {
          more.append(count).append(" × ").append(name).append("; ");
        }
      });
      if (threads > before.threads + SLACK) {
        more.append(threads).append(" threads after ").append(before.threads).append("; ");
      }
      if (mappings > before.mappings + SLACK) {
        more.append(mappings).append(" mappings after ").append(before.mappings).append("; ");
      }
      return more.toString();
    }
  }
}
