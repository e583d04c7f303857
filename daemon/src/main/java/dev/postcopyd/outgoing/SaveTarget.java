package dev.postcopyd.outgoing;

import dev.postcopyd.posix.FileOpener;
import dev.postcopyd.posix.NativeFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Optional;

/**
 * Where a snapshot is written, and how it comes into being as a whole or not at all.
 *
 * <p>The steps are {@link #open}, then {@link #commit} or {@link #abandon}; one thread.
 */
public sealed interface SaveTarget {
  /** Where the migration stream begins in the file. */
  long offsetBytes();

  /** The file to write to; the caller closes it. */
  NativeFile open() throws IOException;

  /** The file is written, synced and closed: lets it appear under its name. */
  void commit() throws IOException;

  /** The save came to nothing: removes what can be removed. */
  void abandon();

  /** Where the file is before {@link #commit}, if that is another place than after it. */
  default Optional<Path> partialFile() {
    return Optional.empty();
  }

  /** The target as a file that is written beside its final name, if that is what it is. */
  default Optional<Beside> beside() {
    return Optional.empty();
  }

  /** The target is not going to be opened: gives back what it holds. */
  default void discard() {}

  /**
   * Whether pages are to be written past the page cache. What describes them never is: it lies at
   * any offset.
   */
  default boolean writesPagesDirectly() {
    return false;
  }

  /** The same target, its pages written past the page cache or not. */
  default SaveTarget direct(boolean direct) {
    return direct ? new Direct(this) : this;
  }

  /** The target of a {@code file:} URI. */
  static SaveTarget atPath(Path path, long offsetBytes) {
    return atPath(path, offsetBytes, FileOpener.ANYWHERE);
  }

  /**
   * The target of a {@code file:} URI of somebody who may not write everywhere.
   *
   * @param opener opens it, or refuses to
   */
  static SaveTarget atPath(Path path, long offsetBytes, FileOpener opener) {
    return offsetBytes == 0 && (!Files.exists(path) || Files.isRegularFile(path))
        ? new Beside(path, opener)
        : new InPlace(path, offsetBytes, opener);
  }

  /**
   * Written beside the final name and renamed into place, so that no half-written file bears it.
   */
  record Beside(Path path, FileOpener opener) implements SaveTarget {
    private Path partial() {
      return path.resolveSibling("." + path.getFileName() + ".partial");
    }

    @Override
    public Optional<Path> partialFile() {
      return Optional.of(partial());
    }

    @Override
    public Optional<Beside> beside() {
      return Optional.of(this);
    }

    @Override
    public long offsetBytes() {
      return 0;
    }

    /** Two that write the same snapshot would write into one file: the second is refused. */
    @Override
    public NativeFile open() throws IOException {
      NativeFile file = opener.open(partial(), NativeFile.Mode.READ_WRITE_CREATE);
      try {
        // Whoever had it may have renamed it in the meantime.
        if (!file.tryLock()
            || file.identity().inode() != (long) Files.getAttribute(partial(), "unix:ino")) {
          throw new IOException(partial() + " is being written by somebody else");
        }
        file.truncate(0);
        return file;
      } catch (IOException | RuntimeException e) {
        file.close();
        throw e;
      }
    }

    @Override
    public void commit() throws IOException {
      Files.move(
          partial(), path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      Path directory = path.toAbsolutePath().getParent();
      if (directory != null) {
        NativeFile.syncDirectory(directory);
      }
    }

    @Override
    public void abandon() {
      try {
        Files.deleteIfExists(partial());
      } catch (IOException e) {
        // It is named .partial and nobody takes it for a snapshot; the save's own failure is what
        // counts.
        org.slf4j.LoggerFactory.getLogger(SaveTarget.class)
            .warn("can't remove file={}", partial(), e);
      }
    }
  }

  /** Written where it stands, because something of the caller's lies before it or it is no file. */
  record InPlace(Path path, long offsetBytes, FileOpener opener) implements SaveTarget {
    @Override
    public NativeFile open() throws IOException {
      return opener.open(path, NativeFile.Mode.READ_WRITE_CREATE);
    }

    @Override
    public void commit() {}

    @Override
    public void abandon() {}
  }

  /** A file that a client has handed over. */
  record Descriptor(NativeFile file, long offsetBytes) implements SaveTarget {
    @Override
    public NativeFile open() {
      return file;
    }

    @Override
    public void discard() {
      file.close();
    }

    @Override
    public void commit() {}

    @Override
    public void abandon() {}
  }

  /**
   * A target whose pages are written past the page cache. A descriptor that a client has handed
   * over is opened anew for that, because its flags are the client's too.
   */
  record Direct(SaveTarget target) implements SaveTarget {
    @Override
    public long offsetBytes() {
      return target.offsetBytes();
    }

    @Override
    public NativeFile open() throws IOException {
      NativeFile file = target.open();
      if (!(target instanceof Descriptor)) {
        return file;
      }
      try (file) {
        return file.reopen(NativeFile.Mode.READ_WRITE_CREATE);
      }
    }

    @Override
    public void commit() throws IOException {
      target.commit();
    }

    @Override
    public void abandon() {
      target.abandon();
    }

    @Override
    public void discard() {
      target.discard();
    }

    @Override
    public Optional<Path> partialFile() {
      return target.partialFile();
    }

    @Override
    public Optional<Beside> beside() {
      return target.beside();
    }

    @Override
    public boolean writesPagesDirectly() {
      return true;
    }
  }
}
