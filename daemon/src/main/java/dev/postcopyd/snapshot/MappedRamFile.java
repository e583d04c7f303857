package dev.postcopyd.snapshot;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamSource;
import java.io.IOException;
import java.util.List;
import java.util.Optional;

/**
 * A snapshot that QEMU saved to {@code file:} with the capability {@code mapped-ram}.
 *
 * <p>Opening reads the headers of all blocks, their bitmaps (32 KiB a GiB of RAM), and everything
 * behind RAM; it checks all of that ({@link MappedRamParser}) and reads no page. Immutable and safe
 * for any thread; owns its file.
 */
public final class MappedRamFile implements Snapshot {
  private final NativeFile file;
  private final long streamOffsetBytes;
  private final MappedRamContents contents;

  private MappedRamFile(NativeFile file, long streamOffsetBytes, MappedRamContents contents) {
    this.file = file;
    this.streamOffsetBytes = streamOffsetBytes;
    this.contents = contents;
  }

  /**
   * Opens the stream that begins at {@code streamOffsetBytes} and ends with the file. Takes the
   * file over if it succeeds; a caller that gets an exception still owns it.
   *
   * @param source the bytes of {@code file}; used during the call only
   * @throws StreamFormatException if the file is damaged, or of a kind that cannot be loaded lazily
   */
  static MappedRamFile open(NativeFile file, StreamSource source, long streamOffsetBytes)
      throws IOException {
    return new MappedRamFile(file, streamOffsetBytes, parse(source, streamOffsetBytes));
  }

  /** The file's contents, from any source of bytes. */
  static MappedRamContents parse(StreamSource source, long streamOffsetBytes) throws IOException {
    return new MappedRamParser(source, streamOffsetBytes).parse();
  }

  @Override
  public String name() {
    return file.name();
  }

  @Override
  public SnapshotFormat format() {
    return SnapshotFormat.MAPPED_RAM;
  }

  @Override
  public NativeFile file() {
    return file;
  }

  @Override
  public List<SnapshotBlock> blocks() {
    return contents.blocks();
  }

  @Override
  public Optional<MachineState> machineState() {
    return Optional.of(contents.machineState());
  }

  /** Where the stream begins: 0, or the N of {@code offset=N}. */
  public long streamOffsetBytes() {
    return streamOffsetBytes;
  }

  /** Where each of {@link #blocks()} lies. */
  public List<BlockLayout> layouts() {
    return contents.layouts();
  }

  /** File offset of the first device section. */
  public long deviceSectionsOffsetBytes() {
    return contents.deviceSectionsOffsetBytes();
  }

  @Override
  public void close() {
    file.close();
  }
}
