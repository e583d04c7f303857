package dev.postcopyd.cli;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.nio.file.Path;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** The snapshot that a command works on, as users name it. */
final class SnapshotArgument {
  @Parameters(
      paramLabel = "SNAPSHOT",
      description = "A mapped-ram file, a libvirt save image (sparse), or raw guest memory.")
  private String path = "";

  @Option(
      names = "--offset",
      paramLabel = "BYTES",
      description =
          "Where in the file a mapped-ram stream begins, as in file:PATH,offset=BYTES; 0x for hex.")
  private long offsetBytes;

  Path path() {
    return Path.of(path);
  }

  long offsetBytes() {
    return offsetBytes;
  }

  /** What a command does with the snapshot. */
  interface Use<T> {
    T apply(Snapshot snapshot) throws IOException;
  }

  /** Opens the snapshot, uses it and closes it. Whatever is wrong with it names the file. */
  <T> T use(Use<T> use) throws IOException {
    try (Snapshot snapshot =
        SnapshotOpener.open(NativeFile.open(path, NativeFile.Mode.READ), offsetBytes)) {
      return use.apply(snapshot);
    } catch (StreamFormatException e) {
      throw new IOException(path + ": " + e.getMessage(), e);
    }
  }
}
