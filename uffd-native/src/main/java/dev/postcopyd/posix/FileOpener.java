package dev.postcopyd.posix;

import java.io.IOException;
import java.nio.file.Path;

/** Opens files that somebody names by their path. Safe for any thread. */
@FunctionalInterface
public interface FileOpener {
  /** Every file that the process may open. */
  FileOpener ANYWHERE = NativeFile::open;

  /**
   * Opens a file, which the caller then owns.
   *
   * @throws IOException also if the file is one that is not to be opened
   */
  NativeFile open(Path path, NativeFile.Mode mode) throws IOException;

  /** What a path stands for: relative ones may be relative to somewhere else than the process's. */
  default Path resolve(Path path) {
    return path;
  }
}
