package dev.postcopyd.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.testdata.GoldenSnapshot;
import dev.postcopyd.workingset.WorkingSetChoice;
import dev.postcopyd.workingset.WorkingSetSession;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class PostcopydCommandTest {
  @TempDir private Path folder;

  private record Outcome(int exitCode, String out, String err) {}

  private static Outcome run(String... args) {
    StringWriter out = new StringWriter();
    StringWriter err = new StringWriter();
    CommandLine commandLine =
        PostcopydCommand.commandLine().setOut(new PrintWriter(out)).setErr(new PrintWriter(err));
    int exitCode = commandLine.execute(args);
    return new Outcome(exitCode, out.toString(), err.toString());
  }

  @Test
  void inspectShowsWhatQemuSaved() {
    GoldenSnapshot golden = GoldenSnapshot.of("pc");
    Outcome outcome = run("inspect", golden.file().toString());

    assertThat(outcome.exitCode()).isZero();
    assertThat(outcome.err()).isEmpty();
    assertThat(outcome.out().lines())
        .contains(
            "file           " + golden.file(),
            "format         mapped-ram",
            "size           " + golden.recipe("bytes") + " bytes",
            "stream at      0x0",
            "machine type   pc-i440fx-10.0",
            "run state      paused",
            "RAM            32.3 MiB in 6 blocks, 208 of 8274 pages stored");
    assertThat(outcome.out().replaceAll(" +", " ").lines())
        .anyMatch(line -> line.matches("pc\\.ram 32 MiB 8192 \\d+ 0x8e 0x100000"))
        .anyMatch(line -> line.matches("pc\\.bios 64 KiB 16 \\d+ 0x[0-9a-f]+ 0x[0-9a-f]+00000"))
        .anyMatch(line -> line.matches("timer 0 0 2 0x[0-9a-f]+ \\d+"))
        .anyMatch(line -> line.matches("globalstate 0 \\d+ 1 0x[0-9a-f]+ 134"));
  }

  @Test
  void inspectPrintsJson() {
    GoldenSnapshot golden = GoldenSnapshot.of("offset");
    Outcome outcome = run("inspect", "--json", "--offset", "0x3039", golden.file().toString());

    assertThat(outcome.exitCode()).isZero();
    JsonNode report = JsonMapper.shared().readTree(outcome.out());
    assertThat(report.propertyNames())
        .containsExactly("file", "format", "size-bytes", "blocks", "machine");
    assertThat(report.get("size-bytes").asLong()).isEqualTo(Long.parseLong(golden.recipe("bytes")));
    assertThat(report.get("blocks").size()).isEqualTo(golden.ramBlocks().size());
    for (JsonNode block : report.get("blocks")) {
      assertThat(block.get("length-bytes").asLong())
          .isEqualTo(golden.ramBlocks().get(block.get("name").asString()));
    }
    JsonNode ram = report.get("blocks").get(0);
    assertThat(ram.propertyNames())
        .containsExactly(
            "name",
            "length-bytes",
            "pages",
            "stored-pages",
            "bitmap-offset-bytes",
            "pages-offset-bytes");
    // Offsets are absolute: 12345 bytes and the 0x8e of every pc's header.
    assertThat(ram.get("bitmap-offset-bytes").asLong()).isEqualTo(12345 + 0x8e);
    assertThat(ram.get("pages-offset-bytes").asLong()).isEqualTo(0x100000);
    JsonNode machine = report.get("machine");
    assertThat(machine.propertyNames())
        .containsExactly(
            "type",
            "stream-offset-bytes",
            "run-state",
            "device-state-offset-bytes",
            "device-sections",
            "vmdescription-length-bytes");
    assertThat(machine.get("type").asString()).isEqualTo("pc-i440fx-10.0");
    assertThat(machine.get("stream-offset-bytes").asLong()).isEqualTo(12345);
    assertThat(machine.get("run-state").asString()).isEqualTo("paused");
    assertThat(machine.get("device-sections").get(0).propertyNames())
        .containsExactly(
            "name", "instance-id", "section-id", "version", "offset-bytes", "length-bytes");
  }

  @Test
  void inspectOfASnapshotWithoutVmDescription() {
    Outcome text = run("inspect", GoldenSnapshot.of("no-vmdesc").file().toString());
    Outcome json = run("inspect", "--json", GoldenSnapshot.of("no-vmdesc").file().toString());

    assertThat(text.out()).contains("vmdescription  none\n").contains("\nglobalstate ");
    assertThat(
            JsonMapper.shared()
                .readTree(json.out())
                .get("machine")
                .has("vmdescription-length-bytes"))
        .isFalse();
  }

  @Test
  void inspectOfRawMemory() throws IOException {
    Path path = folder.resolve("memory");
    Files.write(path, new byte[3 * 4096]);
    Outcome text = run("inspect", path.toString());
    Outcome json = run("inspect", "--json", path.toString());

    assertThat(text.out().replaceAll(" +", " ").lines())
        .contains(
            "format raw-memory",
            "RAM 12 KiB in 1 blocks, 3 of 3 pages stored",
            "ram 12 KiB 3 3 - 0x0");
    assertThat(JsonMapper.shared().readTree(json.out()).propertyNames())
        .containsExactly("file", "format", "size-bytes", "blocks");
  }

  /** Its first resume, with a guest that touches three pages. */
  private Path recordWorkingSet(Path snapshot) throws IOException {
    RamBlockTable.Builder table = RamBlockTable.builder();
    try (Snapshot opened =
        SnapshotOpener.open(NativeFile.open(snapshot, NativeFile.Mode.READ), 0)) {
      opened
          .blocks()
          .forEach(block -> table.add(block.name(), block.usedLengthBytes(), PageSize.SIZE_4K));
      return WorkingSetSession.open(WorkingSetChoice.BESIDE, Optional.of(snapshot), opened)
          .save(table.build(), new long[] {100, 7, 8}, true)
          .orElseThrow()
          .file();
    }
  }

  @Test
  void inspectShowsTheWorkingSetBesideTheSnapshot() throws IOException {
    Path path = folder.resolve("snap.mr");
    Files.copy(GoldenSnapshot.of("pc").file(), path);
    Path workingSet = recordWorkingSet(path);

    assertThat(run("inspect", path.toString()).out().lines())
        .contains("working set    " + workingSet + ": 3 pages (12 KiB), 1 recordings");
    JsonNode json = JsonMapper.shared().readTree(run("inspect", "--json", path.toString()).out());
    assertThat(json.propertyNames())
        .containsExactly("file", "format", "size-bytes", "blocks", "machine", "working-set");
    assertThat(json.get("working-set").propertyNames())
        .containsExactly(
            "file", "usable", "size-bytes", "recordings", "pages", "pages-bytes", "core-pages");
    assertThat(json.get("working-set").get("usable").asBoolean()).isTrue();
    assertThat(json.get("working-set").get("pages").asInt()).isEqualTo(3);

    Files.copy(
        GoldenSnapshot.of("q35").file(), path, java.nio.file.StandardCopyOption.REPLACE_EXISTING);
    assertThat(run("inspect", path.toString()).out())
        .contains(
            "not used: it is that of another snapshot: machine type 'pc-i440fx-10.0', not"
                + " 'pc-q35-10.0'");
    byte[] damaged = Files.readAllBytes(workingSet);
    damaged[30] ^= 1;
    Files.write(workingSet, damaged);
    assertThat(run("inspect", path.toString()).out()).contains("not used: it is damaged: checksum");
    Outcome outcome = run("inspect", workingSet.toString());
    assertThat(outcome.exitCode()).isEqualTo(1);
    assertThat(outcome.err())
        .startsWith("postcopyd: " + workingSet + ": it is damaged: checksum is ");
  }

  @Test
  void inspectShowsAWorkingSet() throws IOException {
    Path path = folder.resolve("snap.mr");
    Files.copy(GoldenSnapshot.of("pc").file(), path);
    Path workingSet = recordWorkingSet(path);
    Outcome text = run("inspect", workingSet.toString());
    Outcome json = run("inspect", "--json", workingSet.toString());

    assertThat(text.exitCode()).isZero();
    assertThat(text.out().replaceAll(" +", " ").lines())
        .contains(
            "file " + workingSet,
            "format working-set, version 1",
            "size " + Files.size(workingSet) + " bytes",
            "machine type pc-i440fx-10.0",
            "recordings 1",
            "pages 3 (12 KiB), 3 of them seen by every recording that could",
            "pc.ram 32 MiB 8192 3",
            "pc.bios 64 KiB 16 0",
            "seen by every recording that could 3 2");
    JsonNode report = JsonMapper.shared().readTree(json.out());
    assertThat(report.propertyNames())
        .containsExactly(
            "file",
            "format",
            "version",
            "size-bytes",
            "snapshot-fingerprint",
            "machine-type",
            "recordings",
            "pages",
            "pages-bytes",
            "core-pages",
            "blocks",
            "parts");
    assertThat(report.get("parts").get(0).propertyNames()).containsExactly("pages", "runs");
    assertThat(report.get("blocks").get(0).get("working-set-pages").asInt()).isEqualTo(3);
  }

  @Test
  void verifySaysOk() {
    GoldenSnapshot golden = GoldenSnapshot.of("q35");
    Outcome outcome = run("verify", golden.file().toString());

    assertThat(outcome.exitCode()).isZero();
    assertThat(outcome.out())
        .matches(
            Pattern.quote(golden.file().toString())
                + ": ok: mapped-ram, pc-q35-10\\.0, 32\\.3 MiB in 6 blocks, \\d+ of 8274 pages"
                + " stored, \\d+ device sections\\R");
  }

  @Test
  void verifyReadsPages() {
    Outcome outcome = run("verify", "--read-pages", GoldenSnapshot.of("pc").file().toString());

    assertThat(outcome.exitCode()).isZero();
    assertThat(outcome.out()).endsWith(", 208 pages read\n");
  }

  @Test
  void verifyNamesTheDamageAndItsOffset() throws IOException {
    Path path = folder.resolve("damaged.mr");
    Files.copy(GoldenSnapshot.of("pc").file(), path);
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE)) {
      file.writeBytesAt(new byte[8], 0x76);
    }
    Outcome outcome = run("verify", path.toString());

    assertThat(outcome.exitCode()).isEqualTo(1);
    assertThat(outcome.out()).isEmpty();
    assertThat(outcome.err())
        .isEqualTo(
            "postcopyd: "
                + path
                + ": page size 0 is not a power of two at byte offset 118 (0x76)\n");
  }

  /** The bytes of a section's name: opening does not look at them, verify does. */
  @Test
  void verifyChecksTheDeviceSectionsAgainstTheVmDescription() throws IOException {
    Path path = folder.resolve("damaged.mr");
    Files.copy(GoldenSnapshot.of("pc").file(), path);
    JsonNode machine =
        JsonMapper.shared()
            .readTree(run("inspect", "--json", path.toString()).out())
            .get("machine");
    long at = machine.get("device-state-offset-bytes").asLong();
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE)) {
      file.writeBytesAt(new byte[] {'T'}, at + 6);
    }
    Outcome outcome = run("verify", path.toString());

    assertThat(outcome.exitCode()).isEqualTo(1);
    assertThat(outcome.err())
        .isEqualTo(
            "postcopyd: %s: device section 'Timer' (instance 0) is not the one that the vmdescription lists as number 1 at byte offset %d (0x%x)\n"
                .formatted(path, at, at));
  }

  @Test
  void whatCannotBeReadIsNamed() {
    Path missing = folder.resolve("missing.mr");

    assertThat(run("verify", missing.toString()))
        .isEqualTo(
            new Outcome(
                1, "", "postcopyd: open of " + missing + ": ENOENT (No such file or directory)\n"));
    assertThat(run("inspect", folder.toString()))
        .isEqualTo(
            new Outcome(1, "", "postcopyd: not a snapshot: " + folder + " is a directory\n"));
  }

  @Test
  void wrongUsageExitsWithTwo() {
    assertThat(run()).extracting(Outcome::exitCode).isEqualTo(2);
    assertThat(run().err())
        .startsWith("a command is missing\n")
        .contains("Usage: postcopyd [-hV] COMMAND");
    assertThat(run("inspect").exitCode()).isEqualTo(2);
    assertThat(run("inspect", "a", "b").exitCode()).isEqualTo(2);
    assertThat(run("verify", "--offset", "-1", "a").exitCode()).isEqualTo(2);
    assertThat(run("verify", "--offset", "x", "a").err())
        .startsWith("Invalid value for option '--offset': 'x' is not a number of bytes\n");
    assertThat(run("dance").exitCode()).isEqualTo(2);
    assertThat(run("run", "--qmp", "unix:" + folder.resolve("qmp"), "--working-set", ""))
        .satisfies(outcome -> {
          assertThat(outcome.exitCode()).isEqualTo(2);
          assertThat(outcome.err()).startsWith("--working-set: expected a file or 'off'\n");
        });
  }

  @Test
  void helpAndVersion() {
    assertThat(run("--help").exitCode()).isZero();
    assertThat(run("--help").out()).contains("inspect", "verify");
    assertThat(run("verify", "--help").out()).contains("--read-pages");
    assertThat(run("run", "--help").out()).contains("--working-set=FILE|off");
    assertThat(run("--version").out()).matches("postcopyd \\d+\\.\\d+\\.\\d+.*\\R");
  }
}
