package dev.postcopyd.cli;

import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.stream.StreamFormatException;
import java.io.IOException;
import java.nio.file.Path;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.TypeConversionException;

/** The snapshot that a command works on, as users name it. */
final class SnapshotArgument {
  @Parameters(
      paramLabel = "SNAPSHOT",
      description = "A mapped-ram file, a libvirt save image (sparse), or raw guest memory.")
  private String path = "";

  @Option(
      names = "--offset",
      converter = Offset.class,
      paramLabel = "BYTES",
      description =
          "Where in the file a mapped-ram stream begins, as in file:PATH,offset=BYTES; 0x for hex.")
  private long offsetBytes;

  /** A number of bytes, decimal or with 0x. */
  static final class Offset implements ITypeConverter<Long> {
    @Override
    public Long convert(String value) {
      try {
        return value.startsWith("0x")
            ? Long.parseUnsignedLong(value.substring(2), 16)
            : Long.parseUnsignedLong(value);
      } catch (NumberFormatException e) {
        throw new TypeConversionException("'" + value + "' is not a number of bytes");
      }
    }
  }

  Path path() {
    return Path.of(path);
  }

  long offsetBytes() {
    return offsetBytes;
  }

  /** As migrate-incoming takes it. */
  String uri() {
    return "file:" + path().toAbsolutePath() + (offsetBytes == 0 ? "" : ",offset=" + offsetBytes);
  }

  /** What a command does with the snapshot. */
  interface Use<T> {
    T apply(Snapshot snapshot) throws IOException;
  }

  /** Opens the snapshot, uses it and closes it. Whatever is wrong with it names the file. */
  <T> T use(Use<T> use) throws IOException {
    try (Snapshot snapshot =
        SnapshotOpener.open(NativeFile.open(path, NativeFile.Mode.READ), offsetBytes)) {
      return use.apply(snapshot);
    } catch (StreamFormatException e) {
      throw new IOException(path + ": " + e.getMessage(), e);
    }
  }
}
