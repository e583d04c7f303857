package dev.postcopyd.incoming;

import dev.postcopyd.posix.FileIdentity;
import dev.postcopyd.posix.NativeFile;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A {@link LoadTrace} in a small file beside the daemon's socket, from before the guest runs until
 * it has all its memory. Lines of text, UTF-8:
 *
 * <pre>
 * postcopyd-load 1
 * guest=stream:unix:/run/vm.mig
 * snapshot=file:/var/lib/vm.mr
 * preempt=on
 * inode=1234
 * size=4294967296
 * mtime=1700000000000000000
 * </pre>
 *
 * <p>Replaced as a whole, so that a crash leaves the old one or the new. Snapshots that were handed
 * over as a descriptor leave no trace: a fresh daemon could not open them.
 */
public final class PausedLoadFile implements LoadTrace {
  private static final Logger log = LoggerFactory.getLogger(PausedLoadFile.class);
  private static final String HEAD = "postcopyd-load 1";
  private static final int MAX_BYTES = 64 << 10;

  private final Path path;
  private final String guest;

  /**
   * @param guest the guest as the command line has it: only its own traces count
   */
  public PausedLoadFile(Path path, String guest) {
    this.path = path;
    this.guest = guest;
  }

  @Override
  public void leave(Trace trace) throws IOException {
    if (!trace.snapshotUri().startsWith("file:")
        || trace.snapshotUri().startsWith("file:/dev/fdset/")) {
      log.warn(
          "should this daemon die, no other can recover the guest: its snapshot has no path snapshot={}",
          trace.snapshotUri());
      return;
    }
    String text =
        String.join(
            "\n",
            HEAD,
            "guest=" + guest,
            "snapshot=" + trace.snapshotUri(),
            "preempt=" + (trace.preempt() ? "on" : "off"),
            "inode=" + trace.identity().inode(),
            "size=" + trace.identity().sizeBytes(),
            "mtime=" + trace.identity().mtimeNanos(),
            "");
    Path temporary = path.resolveSibling(path.getFileName() + ".new");
    try (NativeFile file = NativeFile.open(temporary, NativeFile.Mode.WRITE_CREATE_TRUNCATE)) {
      file.writeBytesAt(text.getBytes(StandardCharsets.UTF_8), 0);
    }
    // Not synced: it is for a guest that lives on when the daemon dies, and no guest outlives the
    // machine.
    Files.move(temporary, path, StandardCopyOption.ATOMIC_MOVE);
  }

  @Override
  public void remove() {
    try {
      Files.deleteIfExists(path);
    } catch (IOException e) {
      log.warn("a trace of the load stays behind: remove it path={} reason={}", path, e.toString());
    }
  }

  /** Anything odd is logged and ignored. */
  @Override
  public Optional<Trace> find() {
    try {
      if (Files.size(path) > MAX_BYTES) {
        throw new IOException("too large");
      }
      return parse(Files.readAllLines(path, StandardCharsets.UTF_8));
    } catch (NoSuchFileException e) {
      return Optional.empty();
    } catch (IOException | RuntimeException e) {
      log.warn("ignored: not a trace of a load path={} reason={}", path, e.toString());
      return Optional.empty();
    }
  }

  private Optional<Trace> parse(List<String> lines) throws IOException {
    if (lines.isEmpty() || !lines.getFirst().equals(HEAD)) {
      throw new IOException("does not begin with '" + HEAD + "'");
    }
    Map<String, String> values = new HashMap<>();
    for (String line : lines.subList(1, lines.size())) {
      int equals = line.indexOf('=');
      if (equals > 0) {
        values.put(line.substring(0, equals), line.substring(equals + 1));
      }
    }
    if (!guest.equals(values.get("guest"))) {
      log.warn(
          "ignored: left behind for another guest path={} guest={}", path, values.get("guest"));
      return Optional.empty();
    }
    return Optional.of(
        new Trace(
            required(values, "snapshot"),
            required(values, "preempt").equals("on"),
            new FileIdentity(
                0,
                Long.parseLong(required(values, "inode")),
                Long.parseLong(required(values, "size")),
                Long.parseLong(required(values, "mtime")))));
  }

  private static String required(Map<String, String> values, String key) throws IOException {
    String value = values.get(key);
    if (value == null) {
      throw new IOException("has no " + key);
    }
    return value;
  }
}
