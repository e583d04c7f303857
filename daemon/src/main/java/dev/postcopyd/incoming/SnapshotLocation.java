package dev.postcopyd.incoming;

import dev.postcopyd.posix.NativeFile;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Optional;

/**
 * Where a snapshot's bytes are: the outcome of parsing a migration URI and looking up descriptors.
 */
public sealed interface SnapshotLocation {
  /** Where the migration stream begins in the file. */
  long offsetBytes();

  /** The file's path; empty for one that came as a descriptor. */
  Optional<Path> path();

  /** The file, open for reading; the caller owns it. Called at most once. */
  NativeFile open() throws IOException;

  /** The location is not going to be opened: gives back what it holds. */
  void discard();

  /** A file by its path. */
  record AtPath(Path file, long offsetBytes) implements SnapshotLocation {
    @Override
    public Optional<Path> path() {
      return Optional.of(file);
    }

    @Override
    public NativeFile open() throws IOException {
      return NativeFile.open(file, NativeFile.Mode.READ);
    }

    @Override
    public void discard() {}
  }

  /** A file that a client has handed over, by getfd or add-fd. */
  record Descriptor(NativeFile file, long offsetBytes) implements SnapshotLocation {
    @Override
    public Optional<Path> path() {
      return Optional.empty();
    }

    @Override
    public NativeFile open() {
      return file;
    }

    @Override
    public void discard() {
      file.close();
    }
  }
}
