package dev.postcopyd.sink;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.PageBuffer;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/**
 * Where pages wait that the snapshot's disk is too slow for, when memory is full: a file without a
 * name, written one behind the other and begun anew whenever it has been emptied.
 *
 * <p>Room is reserved and given back under the queue's lock; bytes are written and read without it,
 * so that a slow disk holds up only who uses it.
 */
final class SpillFile implements AutoCloseable {
  private final Path directory;
  private final long maxBytes;
  private @Nullable NativeFile file;
  private long endBytes;
  private int pieces;

  /**
   * @param maxBytes how large it may become
   */
  SpillFile(Path directory, long maxBytes) {
    this.directory = directory;
    this.maxBytes = maxBytes;
  }

  /** Room for a batch: first its list, then its bytes. */
  record Piece(NativeFile file, long offsetBytes, int listBytes, int dataBytes) {
    /** Writes a batch into it. */
    void write(PageBatch batch) throws IOException {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment list = arena.allocate(listBytes);
        batch.encode(list.asByteBuffer());
        file.writeFullyAt(list, offsetBytes);
      }
      SharedBuffer buffer = batch.buffer;
      if (buffer != null && dataBytes > 0) {
        file.writeFullyAt(buffer.memory.address() + batch.from, dataBytes, offsetBytes + listBytes);
      }
    }

    /** Reads it back into an empty batch, the bytes to where they were in a buffer of their own. */
    void read(PageBatch batch, PageBuffer into) throws IOException {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment list = arena.allocate(listBytes);
        file.readFullyAt(list.address(), listBytes, offsetBytes);
        batch.decode(list.asByteBuffer());
      }
      if (dataBytes > 0) {
        file.readFullyAt(into.address() + batch.from, dataBytes, offsetBytes + listBytes);
      }
    }
  }

  /** Room for a batch; null if there is none. */
  @Nullable Piece reserve(PageBatch batch) throws IOException {
    int list = batch.encodedBytes();
    int data = batch.buffer == null ? 0 : Math.max(0, batch.to - batch.from);
    if (endBytes + list + data > maxBytes) {
      return null;
    }
    NativeFile to = file;
    if (to == null) {
      Path path = Files.createTempFile(directory, "postcopyd-spill-", "");
      try {
        to = NativeFile.open(path, NativeFile.Mode.READ_WRITE_CREATE);
      } finally {
        Files.delete(path);
      }
      file = to;
    }
    Piece piece = new Piece(to, endBytes, list, data);
    endBytes += list + data;
    pieces++;
    return piece;
  }

  /**
   * A piece is needed no more.
   *
   * @return the file, if that was the last one: for the caller to close, which frees what it has
   */
  @Nullable NativeFile release() {
    pieces--;
    if (pieces > 0) {
      return null;
    }
    NativeFile emptied = file;
    file = null;
    endBytes = 0;
    return emptied;
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
