package dev.postcopyd.snapshot;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.ShortReadException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StoredPagesReaderTest {
  @TempDir private Path folder;

  @Test
  void readsEveryStoredPage() throws IOException {
    try (Snapshot snapshot = open(write())) {
      assertThat(StoredPagesReader.readAll(snapshot)).isEqualTo(5);
    }
  }

  /** Page 69 of pc.ram is the last one before the file's new end that is stored. */
  @Test
  void aFileThatIsTruncatedAfterItWasOpenedIsNamed() throws IOException {
    Path path = write();
    try (Snapshot snapshot = open(path);
        NativeFile file = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE)) {
      file.truncate(0x47000 - 1);

      assertThatThrownBy(() -> StoredPagesReader.readAll(snapshot))
          .isInstanceOf(ShortReadException.class)
          .hasMessage(path + " ends early: 4096 bytes wanted at offset 286720, 4095 there");
    }
  }

  private Path write() throws IOException {
    Path path = folder.resolve("snapshot.mr");
    Files.write(path, SyntheticSnapshot.usual().build());
    return path;
  }

  private static Snapshot open(Path path) throws IOException {
    return SnapshotOpener.open(NativeFile.open(path, NativeFile.Mode.READ), 0);
  }
}
