package dev.postcopyd.workingset;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.workingset.WorkingSetFile.Found;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class WorkingSetFileTest {
  @TempDir private Path folder;

  @Test
  void writesAndReads() throws IOException {
    WorkingSetFile file = new WorkingSetFile(folder.resolve("a.ws"));
    assertThat(file.read()).isInstanceOf(Found.Nothing.class);
    long sizeBytes = file.write(WorkingSets.usual());
    assertThat(Files.size(file.path())).isEqualTo(sizeBytes);
    assertThat(file.read())
        .isInstanceOfSatisfying(
            Found.Whole.class,
            whole -> WorkingSetCodecTest.assertSame(whole.set(), WorkingSets.usual()));
    assertThat(file.write(WorkingSets.usual())).as("over the old one").isEqualTo(sizeBytes);
    try (Stream<Path> files = Files.list(folder)) {
      assertThat(files).as("no temporary file is left").containsExactly(file.path());
    }
  }

  @Test
  void whatAKilledDaemonHasLeftIsRemoved() throws IOException {
    WorkingSetFile file = new WorkingSetFile(folder.resolve("a.ws"));
    Path left = Files.createFile(folder.resolve(".a.ws.4711.partial"));
    Path fresh = Files.createFile(folder.resolve(".a.ws.4712.partial"));
    Path others = Files.createFile(folder.resolve(".b.ws.4711.partial"));
    Path somebodys = Files.createFile(folder.resolve(".a.ws.x.partial"));
    FileTime longAgo = FileTime.from(Instant.now().minusSeconds(120));
    for (Path old : List.of(left, others, somebodys)) {
      Files.setLastModifiedTime(old, longAgo);
    }

    long _ = file.write(WorkingSets.usual());

    try (Stream<Path> files = Files.list(folder)) {
      assertThat(files).containsExactlyInAnyOrder(file.path(), fresh, others, somebodys);
    }
  }

  @Test
  void damageIsNamedAndNothingElseIsTakenForAWorkingSet() throws IOException {
    byte[] whole = WorkingSetCodec.encode(WorkingSets.usual());
    byte[] flipped = whole.clone();
    flipped[40] ^= 1;
    assertThat(read(flipped))
        .isInstanceOfSatisfying(
            Found.Damaged.class,
            damaged -> assertThat(damaged.reason()).startsWith("it is damaged: checksum is "));
    assertThat(read(Arrays.copyOf(whole, 30))).isInstanceOf(Found.Damaged.class);
    assertThat(read(new byte[0])).isInstanceOf(Found.Damaged.class);
    assertThat(read("my diary".getBytes(java.nio.charset.StandardCharsets.UTF_8)))
        .isEqualTo(new Found.NotOurs("it is not a working set"));
    byte[] huge = Arrays.copyOf(whole, WorkingSetCodec.MAX_FILE_BYTES + 1);
    assertThat(read(huge)).isInstanceOf(Found.Damaged.class);
    byte[] newer = whole.clone();
    WireWriter.putU32(newer, WorkingSetCodec.VERSION_OFFSET, 9);
    assertThat(read(WorkingSetCodecTest.sealed(newer)))
        .as("a newer program's file is not overwritten")
        .isInstanceOfSatisfying(
            Found.NotOurs.class, other -> assertThat(other.reason()).contains("version 9"));
    assertThat(new WorkingSetFile(folder).read())
        .isEqualTo(new Found.NotOurs("it is not a regular file"));
  }

  private Found read(byte[] contents) throws IOException {
    Path path = folder.resolve("file");
    Files.write(path, contents);
    return new WorkingSetFile(path).read();
  }

  @Test
  void aDirectoryThatIsNotThereIsAnErrorThatNamesIt() {
    Path path = folder.resolve("missing/a.ws");
    assertThatThrownBy(() -> new WorkingSetFile(path).write(WorkingSets.usual()))
        .isInstanceOf(IOException.class)
        .hasMessageContaining(folder.resolve("missing").toString())
        .hasMessageContaining("ENOENT");
  }

  @Test
  void theOption() {
    Optional<Path> snapshot = Optional.of(Path.of("/var/snap.mr"));
    assertThat(WorkingSetChoice.BESIDE.fileOf(snapshot)).contains(Path.of("/var/snap.mr.ws"));
    assertThat(WorkingSetChoice.BESIDE.fileOf(Optional.empty())).isEmpty();
    assertThat(WorkingSetChoice.parse("off").fileOf(snapshot)).isEmpty();
    assertThat(WorkingSetChoice.parse("/a/b").fileOf(Optional.empty())).contains(Path.of("/a/b"));
    assertThatThrownBy(() -> WorkingSetChoice.parse(""))
        .hasMessage("--working-set: expected a file or 'off'");
  }
}
