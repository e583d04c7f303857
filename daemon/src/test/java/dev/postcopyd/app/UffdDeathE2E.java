package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.UffdGuest;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/**
 * Death on either side of {@code --guest uffd:}, with the packaged program below its holder and
 * guests on a real userfaultfd: kill -9 of the program in the middle of everything loses nothing,
 * and of a guest that is gone nothing is left.
 */
@Timeout(value = 180, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class UffdDeathE2E {
  private static final long BYTES = 64L << 20;
  private static final long PAGES = BYTES / 4096;

  @TempDir Path directory;

  /** Guests touch, write and remove while their pages come and the program dies three times. */
  @Test
  void killedInMidLoadAndNothingIsLost() throws Exception {
    Path snapshot = UffdGuest.pattern(directory.resolve("ram"), BYTES);
    try (HeldProgram program = HeldProgram.start(directory, snapshot, ",eager=off");
        UffdGuest plain =
            program.guest("--region", "size=64M", "--pause-us", "300", "--threads", "2");
        UffdGuest changing =
            program.guest(
                "--region",
                "size=32M",
                "--region",
                "size=32M",
                "--seconds",
                "9",
                "--threads",
                "2",
                "--write",
                "20",
                "--remove",
                "20",
                "--remove-pages",
                "16",
                "--verify-rest");
        UffdGuest shared =
            program.guest(
                "--region",
                "size=64M,backing=memfd",
                "--order",
                "sequential",
                "--pause-us",
                "200")) {
      for (int kill = 0; kill < 3; kill++) {
        TimeUnit.MILLISECONDS.sleep(1_000);
        program.killProgram();
      }
      for (UffdGuest guest : List.of(plain, shared)) {
        JsonNode report = guest.report();
        assertThat(report.path("verified-pages").asLong()).isEqualTo(PAGES);
        assertThat(report.path("wrong-pages").asLong()).isZero();
        assertThat(guest.awaitExit()).as(guest.story()).isEqualTo(UffdGuest.RIGHT);
      }
      JsonNode report = changing.report();
      assertThat(report.path("removed-pages").asLong()).isGreaterThan(1_000);
      assertThat(report.path("wrong-pages").asLong()).as(changing.story()).isZero();
      assertThat(changing.awaitExit()).as(changing.story()).isEqualTo(UffdGuest.RIGHT);
      program.awaitGuests("no guest is left", List::isEmpty);
      assertThat(HeldProgram.openDescriptors(program.holderPid()))
          .as("of guests that are over the holder has nothing")
          .doesNotContainKey("anon_inode:[userfaultfd]");
    }
  }

  /** The eager loader dies too. */
  @Test
  void killedWhileItLoadsEverything() throws Exception {
    Path snapshot = UffdGuest.pattern(directory.resolve("ram"), 512L << 20);
    try (HeldProgram program = HeldProgram.start(directory, snapshot, "");
        UffdGuest guest = program.guest("--region", "size=512M", "--commands")) {
      assertThat(guest.line()).isEqualTo("ready");
      program.awaitGuests("a part has come", guests -> isPartlyLoaded(guests));
      program.killProgram();
      program.awaitGuests(
          "all has come", guests -> guests.size() == 1 && remaining(guests.getFirst()) == 0);
      assertThat(guest.command("verify")).isEqualTo(512 * 256 + " right 0 wrong 0 sigbus");
      assertThat(guest.command("peer 0")).isEqualTo("open");
    }
  }

  /** While a guest is paused, protected, or being copied: it goes on, and can be saved again. */
  @Test
  void killedWhileItSavesAGuest() throws Exception {
    Path snapshot = UffdGuest.pattern(directory.resolve("ram"), BYTES);
    Path saved = directory.resolve("saved");
    try (HeldProgram program = HeldProgram.start(directory, snapshot, "");
        UffdGuest guest =
            program.guest(
                "--region",
                "size=64M",
                "--stamps",
                "--threads",
                "2",
                "--seconds",
                "150",
                "--pause-us",
                "50")) {
      assertThat(guest.line()).isEqualTo("stamping");
      for (int kill = 0; kill < 3; kill++) {
        program.awaitLoaded();
        program.save(saved);
        TimeUnit.MILLISECONDS.sleep(3 + 15 * kill);
        program.killProgram();
        Files.deleteIfExists(saved);
      }
      program.awaitLoaded();
      program.snapshot(saved);
      assertThat(
              new ProcessBuilder(
                      PackagedDaemon.home().resolve("bin/postcopyd").toString(),
                      "verify",
                      "--read-pages",
                      saved.toString())
                  .inheritIO()
                  .start()
                  .waitFor())
          .isZero();
      guest.tell("q");
      JsonNode report = guest.report();
      assertThat(report.path("wrong-pages").asLong(-1)).as(guest.story()).isZero();
      assertThat(report.path("pauses").asInt()).isPositive();
      assertThat(guest.awaitExit()).as(guest.story()).isEqualTo(UffdGuest.RIGHT);
    }
  }

  private static boolean isPartlyLoaded(List<JsonNode> guests) {
    return guests.size() == 1 && remaining(guests.getFirst()) < 512L << 20;
  }

  private static long remaining(JsonNode guest) {
    return guest.path("remaining").asLong(-1);
  }

  /** What the guest asks for while the program does not run is answered by the successor. */
  @Test
  void whatWasUnderWayAtTheKillIsDoneByTheSuccessor() throws Exception {
    Path snapshot = UffdGuest.pattern(directory.resolve("ram"), BYTES);
    try (HeldProgram program = HeldProgram.start(directory, snapshot, ",eager=off");
        UffdGuest guest = program.guest("--region", "size=64M", "--commands")) {
      assertThat(guest.line()).isEqualTo("ready");
      assertThat(guest.command("check 0 1")).startsWith("right snapshot");
      assertThat(guest.command("remove 0 2 4")).isEqualTo("4");
      assertThat(guest.command("write 0 6")).isEqualTo("done");

      program.stopProgram();
      guest.tell("check 0 7");
      TimeUnit.MILLISECONDS.sleep(200);
      program.killProgram();
      assertThat(guest.line()).as("a fault").startsWith("right snapshot");

      program.stopProgram();
      guest.tell("remove 0 8 4");
      TimeUnit.MILLISECONDS.sleep(200);
      program.killProgram();
      assertThat(guest.line()).as("a removal").isEqualTo("4");

      assertThat(guest.command("check 0 2")).startsWith("right zero");
      assertThat(guest.command("check 0 5")).startsWith("right zero");
      assertThat(guest.command("check 0 6")).startsWith("right snapshot+written");
      assertThat(guest.command("check 0 9")).startsWith("right zero");
      assertThat(guest.command("remove 0 7 1")).isEqualTo("1");
      assertThat(guest.command("check 0 7")).startsWith("right zero");
      assertThat(guest.command("verify")).isEqualTo(PAGES + " right 0 wrong 0 sigbus");
    }
  }

  /** Whoever kills the holder takes the safety net away, and not the memory. */
  @Test
  void theHolderKilledAndTheGuestIsServedOn() throws Exception {
    Path snapshot = UffdGuest.pattern(directory.resolve("ram"), BYTES);
    try (HeldProgram program = HeldProgram.start(directory, snapshot, ",eager=off");
        UffdGuest guest = program.guest("--region", "size=64M", "--commands")) {
      assertThat(guest.line()).isEqualTo("ready");
      assertThat(guest.command("check 0 1")).startsWith("right snapshot");
      ProcessHandle daemon = program.program();
      try {
        program.holder().destroyForcibly().waitFor();
        assertThat(guest.command("verify")).isEqualTo(PAGES + " right 0 wrong 0 sigbus");
        assertThat(daemon.isAlive()).isTrue();
      } finally {
        daemon.destroyForcibly();
      }
    }
  }

  @Test
  void ofAGuestThatIsKilledNothingIsLeftAfterASecond() throws Exception {
    Path snapshot = UffdGuest.pattern(directory.resolve("ram"), BYTES);
    try (HeldProgram program = HeldProgram.start(directory, snapshot, ",eager=off")) {
      // What the first guest makes once and for all is there afterwards.
      come(program).close();
      program.awaitGuests("the first is over", List::isEmpty);
      TimeUnit.MILLISECONDS.sleep(500);
      long pid = program.program().pid();
      int threads = HeldProgram.threads(pid);
      var descriptors = HeldProgram.openDescriptors(pid);
      var held = HeldProgram.openDescriptors(program.holderPid());
      UffdGuest staying = come(program);
      for (int i = 0; i < 3; i++) {
        UffdGuest guest = come(program);
        guest.kill();
        long killed = System.nanoTime();
        program.awaitGuests("only one is left", guests -> guests.size() == 1);
        assertThat(TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - killed)).isLessThan(1_000);
        guest.close();
      }
      assertThat(staying.command("verify")).isEqualTo(PAGES + " right 0 wrong 0 sigbus");
      staying.close();
      program.awaitGuests("none is left", List::isEmpty);
      TimeUnit.MILLISECONDS.sleep(500);
      assertThat(HeldProgram.openDescriptors(pid)).isEqualTo(descriptors);
      assertThat(HeldProgram.openDescriptors(program.holderPid())).isEqualTo(held);
      assertThat(HeldProgram.threads(pid)).isLessThanOrEqualTo(threads);
    }
  }

  private static UffdGuest come(HeldProgram program) throws Exception {
    UffdGuest guest = program.guest("--region", "size=64M", "--commands");
    assertThat(guest.line()).isEqualTo("ready");
    assertThat(guest.command("check 0 5")).startsWith("right snapshot");
    return guest;
  }
}
