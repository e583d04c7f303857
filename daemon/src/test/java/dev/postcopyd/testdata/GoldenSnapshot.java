package dev.postcopyd.testdata;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Stream;
import java.util.zip.GZIPInputStream;

/**
 * One case of {@code testdata/qemu-10.0.2}: a snapshot that a real QEMU made, and what QEMU said of
 * it; or of {@code testdata/libvirt-11.3.0}. See testdata/README.md.
 */
public final class GoldenSnapshot {
  private static final Map<String, Path> UNPACKED = new ConcurrentHashMap<>();

  private final String caseName;
  private final Path folder;
  private final Properties recipe = new Properties();

  private GoldenSnapshot(String maker, String caseName) {
    this.caseName = maker + "-" + caseName;
    this.folder = root().resolve("testdata").resolve(maker).resolve(caseName);
    try (InputStream in = Files.newInputStream(folder.resolve("recipe.properties"))) {
      recipe.load(in);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  public static GoldenSnapshot of(String caseName) {
    return new GoldenSnapshot("qemu-10.0.2", caseName);
  }

  /** A case of {@code testdata/libvirt-11.3.0}: a save image that a real libvirt made. */
  public static GoldenSnapshot ofLibvirt(String caseName) {
    return new GoldenSnapshot("libvirt-11.3.0", caseName);
  }

  /** The cases that can be loaded: all but those called {@code refused-…}. */
  public static Stream<String> loadableCases() throws IOException {
    try (Stream<Path> folders = Files.list(root().resolve("testdata/qemu-10.0.2"))) {
      return folders
          .map(folder -> folder.getFileName().toString())
          .filter(name -> !name.startsWith("refused-"))
          .sorted()
          .toList()
          .stream();
    }
  }

  /** The snapshot, unpacked with its holes, once for each JVM; not to be written to. */
  public Path file() {
    return UNPACKED.computeIfAbsent(caseName, _ -> unpack());
  }

  /** What {@code recipe.properties} says. */
  public String recipe(String key) {
    return Objects.requireNonNull(recipe.getProperty(key), key);
  }

  /** Where in the file the stream begins. */
  public long offsetBytes() {
    String uri = recipe("uri");
    int at = uri.indexOf(",offset=");
    return at < 0 ? 0 : Long.parseLong(uri.substring(at + ",offset=".length()));
  }

  /** QEMU's own list of RAM blocks: names, and used lengths in bytes. */
  public Map<String, Long> ramBlocks() {
    try (Stream<String> lines = Files.lines(folder.resolve("ramblocks.txt"))) {
      Map<String, Long> blocks = new LinkedHashMap<>();
      lines
          .skip(1)
          .map(line -> line.trim().split("\\s+"))
          .forEach(columns -> blocks.put(columns[0], Long.decode(columns[4])));
      return blocks;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private Path unpack() {
    try {
      Path target = Files.createTempFile("golden-" + caseName, ".mr");
      target.toFile().deleteOnExit();
      try (InputStream in =
              new GZIPInputStream(Files.newInputStream(folder.resolve("snapshot.mr.gz")), 1 << 16);
          FileChannel out = FileChannel.open(target, StandardOpenOption.WRITE)) {
        long position = 0;
        for (byte[] block = in.readNBytes(4096); block.length > 0; block = in.readNBytes(4096)) {
          if (!isZero(block)) {
            out.write(ByteBuffer.wrap(block), position);
          }
          position += block.length;
        }
        if (out.size() < position) {
          out.write(ByteBuffer.wrap(new byte[1]), position - 1);
        }
      }
      return target;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static boolean isZero(byte[] block) {
    for (byte value : block) {
      if (value != 0) {
        return false;
      }
    }
    return true;
  }

  /** The project's folder: surefire sets basedir to the module's. */
  private static Path root() {
    Path directory = Path.of(System.getProperty("basedir", "")).toAbsolutePath();
    while (!Files.isDirectory(directory.resolve("testdata"))) {
      directory =
          Objects.requireNonNull(directory.getParent(), "no testdata above the working directory");
    }
    return directory;
  }
}
