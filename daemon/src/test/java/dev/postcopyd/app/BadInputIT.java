package dev.postcopyd.app;

import static dev.postcopyd.app.PackagedDaemon.awaitMigration;
import static dev.postcopyd.app.PackagedDaemon.enable;
import static dev.postcopyd.app.PackagedDaemon.errorOf;
import static dev.postcopyd.app.PackagedDaemon.load;
import static dev.postcopyd.app.PackagedDaemon.status;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.posix.HugePages;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.qmp.client.QmpClient;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.snapshot.SyntheticSnapshot;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/**
 * What every bad snapshot comes to in a whole daemon: the state failed and an error-desc that names
 * the file, the place and what is wrong; no descriptor and no mapping more than before; and the
 * next load works. What is wrong with which byte, {@code MappedRamFileTest} and {@code
 * SnapshotOpenerTest} try one by one.
 */
@Timeout(value = 180, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class BadInputIT {
  private static final byte[] FILE = SyntheticSnapshot.usual().build();

  @TempDir Path directory;

  private Optional<Daemon> daemon = Optional.empty();
  private Optional<QmpClient> connected = Optional.empty();

  private QmpClient start(String guest) throws IOException, QmpException {
    Path socket = directory.resolve("qmp");
    daemon =
        Optional.of(
            Daemon.start(
                DaemonConfig.of(List.of(SocketSpec.parse("unix:" + socket)))
                    .withGuest(GuestSpec.parse(guest))));
    QmpClient client =
        QmpClient.connectAndNegotiate(UnixDomainSocketAddress.of(socket), PackagedDaemon.PATIENCE);
    connected = Optional.of(client);
    enable(client, "mapped-ram", "postcopy-ram", "events");
    return client;
  }

  @AfterEach
  void stop() {
    connected.ifPresent(QmpClient::close);
    daemon.ifPresent(Daemon::close);
  }

  private Path file(String name, byte[] content) throws IOException {
    return Files.write(directory.resolve(name), content);
  }

  private Path damaged(int at, String hex) throws IOException {
    return file("damaged-%x-%s".formatted(at, hex), SyntheticSnapshot.damaged(FILE, at, hex));
  }

  private void assertFails(QmpClient client, Path file, String reason) throws Exception {
    load(client, file);
    assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
    assertThat(errorOf(client)).isEqualTo(file + ": " + reason);
  }

  private void assertTheNextLoadWorks(QmpClient client) throws Exception {
    load(client, file("good", FILE));
    assertThat(awaitMigration(client, "completed"))
        .containsExactly("setup", "postcopy-device", "postcopy-active", "completed");
  }

  /** Whatever of the test's files this process has open or mapped, and how much else is open. */
  private record Held(long descriptors, List<String> mappings) {
    static Held of(Path directory) throws IOException {
      try (Stream<Path> open = Files.list(Path.of("/proc/self/fd"));
          Stream<String> mapped = Files.lines(Path.of("/proc/self/maps"))) {
        return new Held(
            open.count(), mapped.filter(line -> line.contains(directory.toString())).toList());
      }
    }
  }

  @Test
  void everyKindOfDamageFailsTheLoadAndLeavesNothing() throws Exception {
    QmpClient client = start("memory");
    assertTheNextLoadWorks(client);
    assertFails(
        client,
        file("empty", new byte[0]),
        "not a snapshot: the file is empty at byte offset 0 (0x0)");
    Held before = Held.of(directory);
    assertFails(
        client,
        file("letter", "Dear aunt".getBytes(StandardCharsets.US_ASCII)),
        "not a snapshot: the file begins with no known magic (44 65 61 72 20 61 75 6e), and its 9"
            + " bytes are no whole pages of memory at byte offset 0 (0x0)");
    assertFails(
        client,
        damaged(4, "00000004"),
        "stream version 4 is not supported (only 3) at byte offset 4 (0x4)");
    assertFails(
        client,
        damaged(0x2b, "43"),
        "unknown configuration subsection 'configuration/Capabilities' at byte offset 28 (0x1c)");
    assertFails(
        client,
        damaged(0x72, "00000002"),
        "mapped-ram header version 2 is not supported (only 1) at byte offset 114 (0x72)");
    assertFails(
        client,
        damaged(0x76, "0000000000000000"),
        "page size 0 is not a power of two at byte offset 118 (0x76)");
    assertFails(
        client,
        damaged(0x76, "0000000000000003"),
        "page size 3 is not a power of two at byte offset 118 (0x76)");
    assertFails(
        client,
        damaged(0x76, "8000000000000000"),
        "page size 9223372036854775808 is not supported (only 4096) at byte offset 118 (0x76)");
    assertFails(
        client,
        damaged(0x7e, "000000000004a1d0"),
        "bitmap of block 'pc.ram' (16 bytes from 0x4a1d0 on) end beyond the end of the file"
            + " (303573 bytes) at byte offset 126 (0x7e)");
    assertFails(
        client,
        damaged(0x86, "0000000000005000"),
        "pages of block 'pc.ram' (286720 bytes from 0x5000 on) end beyond the end of the file"
            + " (303573 bytes) at byte offset 134 (0x86)");
    assertFails(
        client,
        damaged(0x86, "7ffffffffffff000"),
        "pages of block 'pc.ram' (286720 bytes from 0x7ffffffffffff000 on) end beyond the end of"
            + " the file (303573 bytes) at byte offset 134 (0x86)");
    assertFails(
        client,
        damaged(0x47024, "0000000000046000"),
        "pages of block 'pc.bios' (8192 bytes from 0x46000 on) overlap the pages of block 'pc.ram'"
            + " (from 0x1000 to 0x47000) at byte offset 290852 (0x47024)");
    assertFails(
        client, damaged(0x47000, "00"), "block name is empty at byte offset 290816 (0x47000)");
    assertFails(
        client,
        file(
            "twice",
            new SyntheticSnapshot().block("pc.ram", 4096, 1).block("pc.ram", 4096, 1).build()),
        "two RAM blocks are named 'pc.ram' at byte offset 8192 (0x2000)");
    assertFails(
        client,
        damaged(0x4a0f0, "00"),
        "missing end marker: the file ends in 0x7d, and not with a vmdescription (truncated, or"
            + " foreign bytes behind the stream) at byte offset 303572 (0x4a1d4)");
    assertThat(Held.of(directory)).isEqualTo(before);
    assertTheNextLoadWorks(client);
  }

  @Test
  void namesOf255BytesAreLoaded() throws Exception {
    QmpClient client = start("memory");
    load(
        client,
        file(
            "long-names",
            new SyntheticSnapshot()
                .block("n".repeat(255), 4096, 1)
                .block("m".repeat(255), 4096, 1)
                .build()));
    assertThat(awaitMigration(client, "completed")).endsWith("completed");
  }

  /** The first 4097 of a million: the limit is reached long before the end of the file matters. */
  @Test
  void tooManyBlocksFailTheLoad() throws Exception {
    QmpClient client = start("memory");
    SyntheticSnapshot many = new SyntheticSnapshot().announcing(1_000_000L * 4096);
    for (int block = 0; block <= 4096; block++) {
      many.block("b%07d".formatted(block), 4096, 0);
    }
    Path file = file("many", many.build());
    try (NativeFile grown = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE)) {
      grown.truncate(16L << 30);
    }
    load(client, file);
    assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
    assertThat(errorOf(client))
        .matches(
            file
                + ": more than 4096 RAM blocks are not supported at byte offset [0-9]+ \\(0x.*\\)");
    assertTheNextLoadWorks(client);
  }

  @Test
  void aSnapshotOfQemuTruncatedAtEverySixtyFourthFailsTheLoad() throws Exception {
    QmpClient client = start("memory");
    Path file = Files.copy(GoldenSnapshot.of("pc").file(), directory.resolve("golden"));
    long sizeBytes = Files.size(file);
    Held before = Held.of(directory);
    for (int part = 63; part >= 0; part--) {
      long length = sizeBytes * part / 64;
      try (NativeFile out = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE)) {
        out.truncate(length);
      }
      load(client, file);
      assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
      assertThat(errorOf(client))
          .as("%d of %d bytes", length, sizeBytes)
          .startsWith(file + ": ")
          .containsAnyOf(
              "truncated: RAM has 33890304 bytes, but the file only " + length,
              "end beyond the end of the file (" + length + " bytes)",
              "not a snapshot: the file is empty");
    }
    assertThat(Held.of(directory).mappings()).isEqualTo(before.mappings());
    assertThat(Held.of(directory).descriptors()).isLessThanOrEqualTo(before.descriptors());
    assertTheNextLoadWorks(client);
  }

  @Test
  void whatIsNoReadableFileFailsTheLoad() throws Exception {
    QmpClient client = start("memory");
    Path folder = Files.createDirectory(directory.resolve("folder"));
    load(client, folder);
    assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
    assertThat(errorOf(client)).isEqualTo("not a snapshot: " + folder + " is a directory");
    Path gone = directory.resolve("gone");
    assertThatThrownBy(() -> load(client, gone))
        .isInstanceOf(QmpException.class)
        .hasMessage("open of " + gone + ": ENOENT (No such file or directory)");
    assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
    assertThat(errorOf(client))
        .isEqualTo("open of " + gone + ": ENOENT (No such file or directory)");
    Path memory = Path.of("/proc/self/mem");
    load(client, memory);
    assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
    assertThat(errorOf(client))
        .isEqualTo("pread of 92 bytes at offset 0 of /proc/self/mem: EIO (Input/output error)");
    Path deleted = file("deleted", FILE);
    load(client, deleted);
    Files.delete(deleted);
    assertThat(awaitMigration(client, "completed")).endsWith("completed");
  }

  @Test
  void aPageThatIsNoLongerThereFailsTheLoadWithItsPlace() throws Exception {
    QmpClient client = start("memory");
    Path file = file("shrinking", new byte[0]);
    try (NativeFile out = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE)) {
      // Long enough for the loader still to be at it when the end is gone.
      out.truncate(2L << 30);
      load(client, file);
      List<String> _ = awaitMigration(client, "postcopy-active");
      out.truncate(1L << 30);
    }
    assertThat(awaitMigration(client, "failed")).containsExactly("failed");
    assertThat(errorOf(client))
        .matches(
            "a page of block ram can't be read: "
                + file
                + " ends early: 262144 bytes wanted at offset [0-9]+, [0-9]+ there");
    // It is released behind the event.
    long deadline = System.nanoTime() + PackagedDaemon.PATIENCE.toNanos();
    while (daemon.orElseThrow().guest().isPresent()) {
      assertThat(System.nanoTime()).as("time to release the memory").isLessThan(deadline);
      Thread.onSpinWait();
    }
    assertTheNextLoadWorks(client);
  }

  @Test
  void tooFewHugePagesFailTheLoadWithTheRemedy() throws Exception {
    QmpClient client = start("memory,page-size=2M");
    Path file = file("huge", new byte[0]);
    try (NativeFile out = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE)) {
      out.truncate(64L << 30);
    }
    load(client, file);
    assertThat(awaitMigration(client, "failed")).containsExactly("setup", "failed");
    assertThat(errorOf(client))
        .matches(
            "no memory for block ram: .*32768 huge pages of 2048 KiB are needed and [0-9]+ of "
                + HugePages.total(HugePages.SHIFT_2M)
                + " are free: reserve more, e.g. echo N >"
                + " /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages.*");
  }

  @Test
  void aLoadDuringALoadAndACapabilityDuringALoadChangeNothing() throws Exception {
    QmpClient client = start("memory");
    Path file = file("large", new byte[0]);
    try (NativeFile out = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE)) {
      out.truncate(4L << 30);
    }
    load(client, file);
    assertThatThrownBy(() -> load(client, file("other", FILE)))
        .isInstanceOf(QmpException.class)
        .hasMessage("The incoming migration has already been started");
    assertThatThrownBy(() -> enable(client, "postcopy-blocktime"))
        .isInstanceOf(QmpException.class)
        .hasMessage("There's a migration process in progress");
    assertThat(status(client)).isIn("setup", "postcopy-device", "postcopy-active");
    JsonNode _ = client.execute("migrate_cancel", QmpJson.object());
    assertThat(awaitMigration(client, "cancelled")).endsWith("cancelling", "cancelled");
    assertTheNextLoadWorks(client);
  }
}
