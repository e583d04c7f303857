package dev.postcopyd.snapshot;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamSource;
import java.io.IOException;
import java.util.List;
import java.util.Optional;

/**
 * A save image of libvirt (11.2 or newer) in format {@code sparse}: libvirt's header and the
 * domain's XML, and behind them a mapped-ram stream.
 *
 * <p>Immutable and safe for any thread; owns its file.
 */
public final class LibvirtSaveImage implements Snapshot {
  private final LibvirtHeader header;
  private final MappedRamFile mappedRam;

  private LibvirtSaveImage(LibvirtHeader header, MappedRamFile mappedRam) {
    this.header = header;
    this.mappedRam = mappedRam;
  }

  /** As {@link MappedRamFile#open}; {@code head} is how the file begins. */
  static LibvirtSaveImage open(NativeFile file, StreamSource source, byte[] head)
      throws IOException {
    LibvirtHeader header = LibvirtHeader.decode(head, source.sizeBytes()).requireSparse();
    return new LibvirtSaveImage(
        header, MappedRamFile.open(file, source, header.streamOffsetBytes()));
  }

  /** The QEMU stream within. Closing it closes the image. */
  public MappedRamFile mappedRam() {
    return mappedRam;
  }

  /** Whether libvirt notes that the guest was running when it was saved. */
  public boolean wasRunning() {
    return header.wasRunning();
  }

  @Override
  public String name() {
    return mappedRam.name();
  }

  @Override
  public SnapshotFormat format() {
    return SnapshotFormat.LIBVIRT_SPARSE;
  }

  @Override
  public NativeFile file() {
    return mappedRam.file();
  }

  @Override
  public List<SnapshotBlock> blocks() {
    return mappedRam.blocks();
  }

  @Override
  public Optional<MachineState> machineState() {
    return mappedRam.machineState();
  }

  @Override
  public void close() {
    mappedRam.close();
  }
}
