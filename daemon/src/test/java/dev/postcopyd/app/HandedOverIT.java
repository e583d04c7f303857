package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.UffdGuest;
import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.workingset.WorkingSetChoice;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

/**
 * A daemon in this process, and guests in others that hand their userfaultfd over and check every
 * page: what they do with their memory, what they do wrong, and that it concerns nobody else.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class HandedOverIT {
  private static final long BYTES = 16L << 20;
  private static final long PAGES = BYTES / 4096;
  private static final List<String> HOSTILE_MODES =
      List.of(
          "no-fd",
          "not-a-uffd",
          "two-uffds",
          "many-fds",
          "wrong-memfd",
          "raw-uffd",
          "dead-process",
          "big-json",
          "many-mappings",
          "deep-json",
          "not-json",
          "not-utf8",
          "empty-list",
          "missing-field",
          "trailing-garbage",
          "truncated",
          "zero-size",
          "huge-size",
          "wraps",
          "misaligned",
          "overlap",
          "not-mapped",
          "not-registered",
          "beyond-snapshot",
          "odd-page-size",
          "page-size-mismatch",
          "other-page-size",
          "second-message",
          "half-close",
          "fault-outside",
          "die-early");
  private static final String LIST = "__dev.postcopyd_query-guests";

  @TempDir Path directory;

  private Path snapshot = Path.of("");
  private Optional<Daemon> daemon = Optional.empty();
  private Optional<QmpClient> client = Optional.empty();

  @BeforeEach
  void fill() throws Exception {
    snapshot = UffdGuest.pattern(directory.resolve("ram"), BYTES);
  }

  @AfterEach
  void stop() {
    client.ifPresent(QmpClient::close);
    daemon.ifPresent(Daemon::close);
  }

  private void start(String options, boolean incoming, WorkingSetChoice workingSet)
      throws IOException, QmpException {
    GuestSpec.HandedOver guest =
        (GuestSpec.HandedOver) GuestSpec.parse("uffd:" + socket() + options);
    Path qmp = directory.resolve("qmp");
    daemon =
        Optional.of(
            Daemon.start(
                DaemonConfig.of(List.of(SocketSpec.parse("unix:" + qmp)))
                    .withGuest(guest.withoutKeeper())
                    .withIncoming(incoming ? Optional.of("file:" + snapshot) : Optional.empty())
                    .withWorkingSet(workingSet)));
    client =
        Optional.of(
            QmpClient.connectAndNegotiate(UnixDomainSocketAddress.of(qmp), Duration.ofSeconds(30)));
  }

  private void start(String options) throws IOException, QmpException {
    start(options, true, WorkingSetChoice.OFF);
  }

  private Path socket() {
    return directory.resolve("h");
  }

  private UffdGuest guest(String... arguments) throws IOException {
    List<String> all = new ArrayList<>(List.of("--file", snapshot.toString()));
    all.addAll(List.of(arguments));
    all.add(socket().toString());
    return UffdGuest.start(directory, all.toArray(String[]::new));
  }

  private static JsonNode right(UffdGuest guest) throws Exception {
    JsonNode report = guest.report();
    assertThat(report.path("wrong-pages").asLong(-1)).as(guest.story()).isZero();
    assertThat(guest.awaitExit()).as(guest.story()).isEqualTo(UffdGuest.RIGHT);
    return report;
  }

  private JsonNode guests() throws IOException, QmpException {
    return client.orElseThrow().execute(LIST, QmpJson.object());
  }

  private JsonNode awaitGuests(Predicate<JsonNode> condition) throws Exception {
    JsonNode list = guests();
    long endNanos = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
    while (!condition.test(list)) {
      assertThat(System.nanoTime()).as("in time, at last %s", list).isLessThan(endNanos);
      TimeUnit.MILLISECONDS.sleep(10);
      list = guests();
    }
    return list;
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "--region size=16M",
        "--region size=16M,backing=memfd",
        "--region size=16M,backing=memfd,minor=on --pass-memfds",
        "--region size=4M,offset=8M --region size=4M,offset=0"
      })
  void everyPageIsRightHoweverItIsTouched(String memory) throws Exception {
    start(",eager=off");
    try (UffdGuest guest = guest((memory + " --threads 3 --verify-rest").split(" "))) {
      assertThat(right(guest).path("kernel-faults").asLong()).isPositive();
    }
    awaitGuests(JsonNode::isEmpty);
  }

  @Test
  void allOfItComesAndThenTheGuestDependsOnNobody() throws Exception {
    start("");
    try (UffdGuest guest = guest("--region", "size=16M", "--commands")) {
      assertThat(guest.line()).isEqualTo("ready");
      JsonNode only =
          awaitGuests(list ->
                  list.size() == 1 && list.get(0).path("status").asString().equals("completed"))
              .get(0);
      assertThat(only.path("pid").asLong()).isEqualTo(guest.pid());
      assertThat(only.path("remaining").asLong(-1)).isZero();
      assertThat(only.path("total").asLong()).isEqualTo(BYTES);
      assertThat(daemon.orElseThrow().status()).isEqualTo(MigrationStatus.COMPLETED);
      daemon.orElseThrow().close();
      assertThat(guest.command("verify")).isEqualTo(PAGES + " right 0 wrong 0 sigbus");
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "--region size=16M",
        "--region size=16M,backing=memfd",
        "--region size=16M,backing=memfd,minor=on --pass-memfds"
      })
  void whatIsGivenBackIsZeroAlsoWhileTheRestComes(String memory) throws Exception {
    start("");
    for (int seed = 0; seed < 3; seed++) {
      try (UffdGuest guest =
          guest(
              (memory
                      + " --threads 3 --remove 50 --remove-pages 8 --write 30 --seconds 0.5 --verify-rest --seed "
                      + seed)
                  .split(" "))) {
        assertThat(right(guest).path("removed-pages").asLong()).isPositive();
      }
    }
  }

  @Test
  void childrenAndMovesAndHoles() throws Exception {
    start(",eager=off");
    try (UffdGuest guest =
        guest(
            ("--region size=16M --threads 2 --touches 500 --write 20 --remove 10 --forks 3"
                    + " --remaps 4 --unmaps 2 --events all --verify-rest")
                .split(" "))) {
      JsonNode report = right(guest);
      assertThat(report.path("forks").asLong()).isEqualTo(3);
      assertThat(report.path("remaps").asLong()).isPositive();
    }
    awaitGuests(JsonNode::isEmpty);
  }

  @Test
  void clonesComeAtOnceAndEachHasItsOwnState() throws Exception {
    start("");
    List<UffdGuest> clones = new ArrayList<>();
    try {
      for (int i = 0; i < 6; i++) {
        clones.add(guest("--region", "size=16M", "--commands"));
      }
      for (UffdGuest clone : clones) {
        assertThat(clone.line()).isEqualTo("ready");
      }
      clones.getFirst().kill();
      awaitGuests(list ->
          list.size() == 5
              && list.valueStream()
                  .allMatch(guest -> guest.path("status").asString().equals("completed")));
      for (UffdGuest clone : clones.subList(1, 6)) {
        assertThat(clone.command("verify")).isEqualTo(PAGES + " right 0 wrong 0 sigbus");
      }
    } finally {
      clones.forEach(UffdGuest::close);
    }
    awaitGuests(JsonNode::isEmpty);
  }

  @Test
  void aGuestThatComesBeforeTheSnapshotWaitsForIt() throws Exception {
    start("", false, WorkingSetChoice.OFF);
    try (UffdGuest guest = guest("--region", "size=16M")) {
      awaitGuests(
          list -> list.size() == 1 && list.get(0).path("status").asString().equals("setup"));
      assertThat(guest.isAlive()).isTrue();
      PackagedDaemon.enable(client.orElseThrow(), "mapped-ram", "postcopy-ram", "events");
      PackagedDaemon.load(client.orElseThrow(), snapshot);
      right(guest);
    }
  }

  @Test
  void aGuestThatEndsWhileItWaitsIsForgotten() throws Exception {
    start("", false, WorkingSetChoice.OFF);
    try (UffdGuest guest = guest("--region", "size=16M")) {
      awaitGuests(list -> list.size() == 1);
      guest.kill();
      long killed = System.nanoTime();
      awaitGuests(JsonNode::isEmpty);
      assertThat(TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - killed)).isLessThan(1_000);
    }
  }

  /** The daemon ends before there is a snapshot: SIGBUS, and not zeros. */
  @Test
  void aGuestThatWaitsWhenTheDaemonEndsFindsNoZeros() throws Exception {
    start("", false, WorkingSetChoice.OFF);
    try (UffdGuest guest = guest("--region", "size=16M", "--close-uffd", "--commands")) {
      assertThat(guest.line()).isEqualTo("ready");
      awaitGuests(list -> list.size() == 1);
      guest.tell("check 0 3");
      daemon.orElseThrow().close();
      assertThat(guest.line()).startsWith("sigbus");
      assertThat(guest.command("check 0 4")).startsWith("sigbus");
    }
  }

  @Test
  void aDaemonThatEndsInTheMiddleLeavesNoZeros() throws Exception {
    start(",eager=off");
    try (UffdGuest guest = guest("--region", "size=16M", "--close-uffd", "--commands")) {
      assertThat(guest.line()).isEqualTo("ready");
      assertThat(guest.command("check 0 3")).startsWith("right snapshot");
      assertThat(guest.command("remove 0 8 2")).isEqualTo("2");
      daemon.orElseThrow().close();
      assertThat(guest.command("check 0 3")).startsWith("right snapshot");
      assertThat(guest.command("check 0 8")).startsWith("right zero");
      assertThat(guest.command("check 0 4")).startsWith("sigbus");
    }
  }

  /** Recorded on one, brought in first for the next: at least 95 of 100 faults are gone. */
  @Test
  void theWorkingSetOfOneServesTheNext() throws Exception {
    start(",eager=off", true, WorkingSetChoice.BESIDE);
    String[] touching = "--region size=16M --touches 1500 --seed 5 --delay-ms 300".split(" ");
    long before;
    try (UffdGuest first = guest(touching)) {
      before = right(first).path("kernel-faults").asLong();
    }
    awaitGuests(JsonNode::isEmpty);
    try (UffdGuest clone = guest(touching)) {
      assertThat(awaitGuests(list -> list.size() == 1).get(0).path("status").asString())
          .isNotEmpty();
      long after = right(clone).path("kernel-faults").asLong();
      assertThat(after).as("faults, where there were %d", before).isLessThan(before / 20);
    }
  }

  @Test
  void aPageThatCanNotBeReadIsSigbusAndNeverWrong() throws Exception {
    start(",eager=off");
    try (UffdGuest guest = guest("--region", "size=16M", "--commands");
        UffdGuest before = guest("--region", "size=4M", "--commands")) {
      assertThat(guest.line()).isEqualTo("ready");
      assertThat(before.line()).isEqualTo("ready");
      assertThat(guest.command("check 0 1")).startsWith("right snapshot");
      try (FileChannel file = FileChannel.open(snapshot, StandardOpenOption.WRITE)) {
        file.truncate(BYTES / 2);
      }
      assertThat(guest.command("check 0 4000")).startsWith("sigbus");
      JsonNode failed =
          awaitGuests(list ->
              list.valueStream().anyMatch(each -> each.path("status").asString().equals("failed")));
      assertThat(failed.toString())
          .contains(snapshot.toString() + " ends early: 4096 bytes wanted at offset 16384000");
      assertThat(guest.command("check 0 1")).as("it was there").startsWith("right snapshot");
      assertThat(guest.command("check 0 2")).as("nothing more comes").startsWith("sigbus");
      assertThat(before.command("check 0 7")).as("another guest").startsWith("right snapshot");
    }
  }

  @Test
  void whatIsHostileEndsAloneAndLeavesNothing() throws Exception {
    start(",eager=off");
    try (UffdGuest bystander = guest("--region", "size=16M", "--commands")) {
      assertThat(bystander.line()).isEqualTo("ready");
      assertThat(bystander.command("check 0 5")).startsWith("right snapshot");
      long descriptors = openDescriptors();
      for (String mode : HOSTILE_MODES) {
        try (UffdGuest hostile = guest("--region", "size=16M", "--hostile", mode)) {
          assertThat(hostile.awaitExit()).as(mode + hostile.story()).isEqualTo(UffdGuest.RIGHT);
        }
        awaitGuests(list -> list.size() == 1);
        assertThat(bystander.command("check 0 9")).as(mode).startsWith("right snapshot");
      }
      awaitDescriptors(descriptors);
    }
  }

  /** Four threads remove without a pause: what comes of it concerns that guest alone. */
  @Test
  void aStormOfRemovalsTouchesNoOtherGuest() throws Exception {
    start(",eager=off");
    try (UffdGuest bystander = guest("--region", "size=16M", "--commands")) {
      assertThat(bystander.line()).isEqualTo("ready");
      try (UffdGuest storm =
          guest("--region", "size=16M", "--hostile", "remove-storm", "--storm-seconds", "1")) {
        for (int page = 0; page < 20; page++) {
          assertThat(bystander.command("check 0 " + page)).startsWith("right snapshot");
        }
        int code = storm.awaitExit();
        assertThat(code == UffdGuest.RIGHT || code > 128).as(storm.story()).isTrue();
      }
      awaitGuests(list -> list.size() == 1);
      assertThat(bystander.command("verify")).isEqualTo(PAGES + " right 0 wrong 0 sigbus");
    }
  }

  @Test
  void onlyUsersThatAreAllowedAreServed() throws Exception {
    start(",eager=off,allow-uid=12345,mode=0640");
    assertThat(Files.getPosixFilePermissions(socket())).hasSize(3);
    try (UffdGuest guest = guest("--region", "size=16M", "--timeout", "2")) {
      assertThat(guest.awaitExit()).isNotEqualTo(UffdGuest.RIGHT);
    }
    assertThat(guests()).isEmpty();
  }

  private static long openDescriptors() throws IOException {
    try (Stream<Path> open = Files.list(Path.of("/proc/self/fd"))) {
      return open.count();
    }
  }

  private static void awaitDescriptors(long most) throws Exception {
    long endNanos = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
    while (openDescriptors() > most) {
      assertThat(System.nanoTime()).as("descriptors are given back").isLessThan(endNanos);
      TimeUnit.MILLISECONDS.sleep(10);
    }
  }
}
