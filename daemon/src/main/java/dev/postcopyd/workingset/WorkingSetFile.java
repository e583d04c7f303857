package dev.postcopyd.workingset;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.time.Instant;
import java.util.Optional;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A working set's file. Reading never throws: whatever is wrong with the file, a load goes on
 * without it. Writing is all or nothing: beside the file, synced, and renamed into place.
 *
 * <p>Stateless but for the path; one thread at a time. Of two programs that write at once the one
 * that renames last wins, and the other's recording is lost.
 */
final class WorkingSetFile {
  private static final Logger log = LoggerFactory.getLogger(WorkingSetFile.class);
  private static final int HEAD_BYTES = 8;
  private static final String PARTIAL = ".partial";

  /** Whoever writes for longer than this has been killed, or writes to no avail. */
  private static final Duration LONGEST_WRITE = Duration.ofMinutes(1);

  private final Path path;

  WorkingSetFile(Path path) {
    this.path = path;
  }

  Path path() {
    return path;
  }

  /** What was found under the path. */
  sealed interface Found {
    /** There is no file. */
    record Nothing() implements Found {}

    /** A working set, of whichever snapshot. */
    record Whole(WorkingSet set, long sizeBytes) implements Found {}

    /** A working set that can't be used; the next recording takes its place. */
    record Damaged(String reason) implements Found {}

    /** Something else, which is not ours to overwrite, or cannot be read. */
    record NotOurs(String reason) implements Found {}
  }

  Found read() {
    if (Files.notExists(path)) {
      return new Found.Nothing();
    }
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.READ)) {
      if (!file.isRegularFile()) {
        return new Found.NotOurs("it is not a regular file");
      }
      long sizeBytes = file.sizeBytes();
      byte[] head = file.readBytesAt(0, (int) Math.min(sizeBytes, HEAD_BYTES));
      if (!WorkingSetCodec.isWorkingSet(head)) {
        return new Found.NotOurs("it is not a working set");
      }
      if (sizeBytes > WorkingSetCodec.MAX_FILE_BYTES) {
        return new Found.Damaged("it has " + sizeBytes + " bytes, which no working set has");
      }
      return new Found.Whole(
          WorkingSetCodec.decode(file.readBytesAt(0, (int) sizeBytes)), sizeBytes);
    } catch (StreamFormatException e) {
      return new Found.Damaged("it is damaged: " + e.getMessage());
    } catch (IOException e) {
      return new Found.NotOurs(String.valueOf(e.getMessage()));
    }
  }

  /** What daemons have left that were killed while they wrote. */
  private void removeLeftovers() {
    Path directory = path.toAbsolutePath().getParent();
    if (directory == null) {
      return;
    }
    Instant old = Instant.now().minus(LONGEST_WRITE);
    try (DirectoryStream<Path> found =
        Files.newDirectoryStream(directory, other -> isPartial(other.getFileName().toString()))) {
      for (Path partial : found) {
        if (Files.getLastModifiedTime(partial).toInstant().isBefore(old)) {
          boolean _ = Files.deleteIfExists(partial);
        }
      }
    } catch (IOException | DirectoryIteratorException e) {
      log.debug("leftovers not looked for directory={}", directory, e);
    }
  }

  private boolean isPartial(String name) {
    String before = "." + path.getFileName() + ".";
    return name.startsWith(before)
        && name.endsWith(PARTIAL)
        && name.length() > before.length() + PARTIAL.length()
        && name.substring(before.length(), name.length() - PARTIAL.length())
            .chars()
            .allMatch(character -> character >= '0' && character <= '9');
  }

  /** Whether a file that begins like this is meant to be a working set. */
  static boolean isWorkingSet(Path path) {
    return Files.isRegularFile(path)
        && switch (new WorkingSetFile(path).read()) {
          case Found.Whole _, Found.Damaged _ -> true;
          case Found.Nothing _, Found.NotOurs _ -> false;
        };
  }

  /**
   * Replaces the file.
   *
   * @return its new size in bytes
   * @throws IOException with path and errno; the old file is still there then
   */
  long write(WorkingSet set) throws IOException {
    byte[] bytes = WorkingSetCodec.encode(set);
    removeLeftovers();
    Path partial =
        path.resolveSibling(
            "." + path.getFileName() + "." + ProcessHandle.current().pid() + PARTIAL);
    try {
      try (NativeFile file = NativeFile.open(partial, NativeFile.Mode.WRITE_CREATE_TRUNCATE)) {
        file.writeBytesAt(bytes, 0);
        file.sync();
      }
      Files.move(
          partial, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } catch (IOException e) {
      boolean _ = Files.deleteIfExists(partial);
      throw e;
    }
    Optional<Path> directory = Optional.ofNullable(path.toAbsolutePath().getParent());
    if (directory.isPresent()) {
      NativeFile.syncDirectory(directory.get());
    }
    return bytes.length;
  }
}
