package dev.postcopyd.sink;

import dev.postcopyd.posix.NativeFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/**
 * Where pages wait that the snapshot's disk is too slow for, when memory is full: a file without a
 * name, written one behind the other and begun anew whenever it has been emptied. Not thread-safe.
 */
final class SpillFile implements AutoCloseable {
  private final Path directory;
  private @Nullable NativeFile file;
  private long endBytes;
  private int pieces;

  SpillFile(Path directory) {
    this.directory = directory;
  }

  /** How much of it is in use. */
  long sizeBytes() {
    return endBytes;
  }

  /** Adds bytes; answers where they stand. */
  long append(long address, int lengthBytes) throws IOException {
    NativeFile to = file;
    if (to == null) {
      Path path = Files.createTempFile(directory, "postcopyd-spill-", "");
      to = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE);
      file = to;
      Files.delete(path);
    }
    to.writeFullyAt(address, lengthBytes, endBytes);
    long at = endBytes;
    endBytes += lengthBytes;
    pieces++;
    return at;
  }

  /** Reads a piece back, once. */
  void take(long offsetBytes, long address, int lengthBytes) throws IOException {
    NativeFile from = file;
    if (from == null) {
      throw new IllegalStateException("nothing has been spilled");
    }
    from.readFullyAt(address, lengthBytes, offsetBytes);
    pieces--;
    if (pieces == 0) {
      from.truncate(0);
      endBytes = 0;
    }
  }

  @Override
  public void close() {
    NativeFile of = file;
    file = null;
    if (of != null) {
      of.close();
    }
  }
}
