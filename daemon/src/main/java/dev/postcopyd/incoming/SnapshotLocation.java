package dev.postcopyd.incoming;

import dev.postcopyd.posix.FileOpener;
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

  /**
   * Whether pages are to be read past the page cache. What describes them never is: it lies at any
   * offset.
   */
  default boolean readsPagesDirectly() {
    return false;
  }

  /** The same location, its pages read past the page cache or not. */
  default SnapshotLocation direct(boolean direct) {
    return direct ? new Direct(this) : this;
  }

  /**
   * A file by its path.
   *
   * @param opener opens it, or refuses to
   */
  record AtPath(Path file, long offsetBytes, FileOpener opener) implements SnapshotLocation {
    /** A file that may be anywhere. */
    public AtPath(Path file, long offsetBytes) {
      this(file, offsetBytes, FileOpener.ANYWHERE);
    }

    @Override
    public Optional<Path> path() {
      return Optional.of(file);
    }

    @Override
    public NativeFile open() throws IOException {
      return opener.open(file, NativeFile.Mode.READ);
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

  /**
   * A location whose pages are read past the page cache. A descriptor that a client has handed over
   * is opened anew for that, because its flags are the client's too.
   */
  record Direct(SnapshotLocation location) implements SnapshotLocation {
    @Override
    public long offsetBytes() {
      return location.offsetBytes();
    }

    @Override
    public Optional<Path> path() {
      return location.path();
    }

    @Override
    public NativeFile open() throws IOException {
      NativeFile file = location.open();
      if (location instanceof AtPath) {
        return file;
      }
      try (file) {
        return file.reopen(NativeFile.Mode.READ);
      }
    }

    @Override
    public void discard() {
      location.discard();
    }

    @Override
    public boolean readsPagesDirectly() {
      return true;
    }
  }
}
