package dev.postcopyd.snapshot;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.stream.StreamFormat;
import dev.postcopyd.stream.StreamFormatException;
import dev.postcopyd.stream.StreamSource;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.HexFormat;

/**
 * Opens a snapshot of any kind: tells by its first bytes what a file is, and checks it in full.
 *
 * <p>Stateless. A {@link StreamFormatException} says what is wrong with the contents and where, but
 * does not name the file; every other {@link IOException} does.
 */
public final class SnapshotOpener {
  private SnapshotOpener() {}

  /**
   * Opens the snapshot in {@code file}. At offset 0 that is a mapped-ram file, a libvirt save image
   * or raw guest memory; at any other offset only a mapped-ram stream, for there a wrong offset
   * would look like raw memory.
   *
   * @param file taken over: the snapshot closes it, and so does this method when it throws
   * @param offsetBytes where in the file the snapshot begins
   * @throws StreamFormatException if the contents are not a snapshot, or a damaged one
   */
  public static Snapshot open(NativeFile file, long offsetBytes) throws IOException {
    try {
      requireRegularFile(file);
      try (NativeFileSource source = new NativeFileSource(file)) {
        return recognise(file, source, offsetBytes);
      }
    } catch (IOException | RuntimeException | Error e) {
      file.close();
      throw e;
    }
  }

  private static void requireRegularFile(NativeFile file) throws IOException {
    if (file.isDirectory()) {
      throw new IOException("not a snapshot: " + file.name() + " is a directory");
    }
    if (!file.isRegularFile()) {
      throw new IOException("not a snapshot: " + file.name() + " is not a regular file");
    }
  }

  private static Snapshot recognise(NativeFile file, StreamSource source, long offsetBytes)
      throws IOException {
    long sizeBytes = source.sizeBytes();
    if (offsetBytes < 0 || (offsetBytes > 0 && offsetBytes >= sizeBytes)) {
      throw new StreamFormatException(
          "not a snapshot: the file has only " + sizeBytes + " bytes, and the snapshot is to begin",
          offsetBytes);
    }
    byte[] head = head(source, offsetBytes);
    if (head.length >= Integer.BYTES && ByteBuffer.wrap(head).getInt() == StreamFormat.MAGIC) {
      return MappedRamFile.open(file, source, offsetBytes);
    }
    if (offsetBytes != 0) {
      throw new StreamFormatException(
          "not a snapshot: no migration stream begins (" + hex(head) + ")", offsetBytes);
    }
    if (LibvirtHeader.isSaveImage(head)) {
      return LibvirtSaveImage.open(file, source, head);
    }
    ForeignFormat foreign = ForeignFormat.of(head);
    if (foreign != null) {
      throw new StreamFormatException("not a snapshot: the file is " + foreign.label(), 0);
    }
    if (RawMemoryFile.isPossibleSize(sizeBytes)) {
      return RawMemoryFile.open(file, sizeBytes);
    }
    throw new StreamFormatException(
        sizeBytes == 0
            ? "not a snapshot: the file is empty"
            : "not a snapshot: the file begins with no known magic (%s), and its %d bytes are no whole pages of memory"
                .formatted(hex(head), sizeBytes),
        0);
  }

  private static byte[] head(StreamSource source, long offsetBytes) throws IOException {
    byte[] head = new byte[LibvirtHeader.LENGTH_BYTES];
    return Arrays.copyOf(head, source.readAt(offsetBytes, head, 0, head.length));
  }

  private static String hex(byte[] head) {
    return HexFormat.ofDelimiter(" ").formatHex(head, 0, Math.min(8, head.length));
  }
}
