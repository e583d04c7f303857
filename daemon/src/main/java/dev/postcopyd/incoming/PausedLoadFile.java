package dev.postcopyd.incoming;

import dev.postcopyd.guest.PostcopyDestination.Terms;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.FileIdentity;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.ProcessIdentity;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.IntSupplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A {@link LoadTrace} in a small file beside the daemon's socket, from before the guest runs until
 * it has all its memory. Lines of text, UTF-8:
 *
 * <pre>
 * postcopyd-load 2
 * guest=stream:unix:/run/vm.mig
 * snapshot=file:/var/lib/vm.mr
 * preempt=on
 * page-size.pc.ram=2097152
 * extra-block.vga.vram=
 * inode=1234
 * size=4294967296
 * mtime=1700000000000000000
 * process=4711 123456789
 * </pre>
 *
 * <p>The process is the guest's, where it can be seen: its number, and when it was started in clock
 * ticks since the machine was. Block names and values have %, = and control characters as %XX;
 * pages of 4 KiB are not mentioned. Replaced as a whole, so that a crash leaves the old one or the
 * new. Snapshots that were handed over as a descriptor leave no trace: a fresh daemon could not
 * open them.
 */
public final class PausedLoadFile implements LoadTrace {
  private static final Logger log = LoggerFactory.getLogger(PausedLoadFile.class);
  private static final String HEAD = "postcopyd-load 2";
  private static final String PAGE_SIZE = "page-size.";
  private static final String EXTRA_BLOCK = "extra-block.";
  private static final String PROCESS = "process";
  private static final int MAX_BYTES = 64 << 10;

  private final Path path;
  private final String guest;
  private final IntSupplier process;

  /**
   * @param guest the guest as the command line has it: only its own traces count
   * @param process the number of the guest's process at present; 0 if it is not known
   */
  public PausedLoadFile(Path path, String guest, IntSupplier process) {
    this.path = path;
    this.guest = guest;
    this.process = process;
  }

  /** Where it is. */
  public Path path() {
    return path;
  }

  @Override
  public void leave(Trace trace) throws IOException {
    if (!trace.snapshotUri().startsWith("file:")
        || trace.snapshotUri().startsWith("file:/dev/fdset/")) {
      log.warn(
          "should this daemon die, no other can recover the guest: its snapshot has no path snapshot={}",
          trace.snapshotUri());
      // What may be there is of an earlier guest.
      remove();
      return;
    }
    try {
      write(text(trace));
    } catch (IOException e) {
      throw new IOException(
          "the guest is not started, because it can't be noted down which snapshot it will depend"
              + " on, and no other daemon could go on with it: "
              + e.getMessage(),
          e);
    }
  }

  private String text(Trace trace) {
    List<String> lines = new ArrayList<>();
    lines.add(HEAD);
    lines.add("guest=" + escape(guest));
    lines.add("snapshot=" + escape(trace.snapshotUri()));
    lines.add("preempt=" + (trace.preempt() ? "on" : "off"));
    trace
        .terms()
        .hostPageSizes()
        .forEach((block, size) -> lines.add(PAGE_SIZE + escape(block) + "=" + size.bytes()));
    trace.terms().extraBlocks().forEach(block -> lines.add(EXTRA_BLOCK + escape(block) + "="));
    lines.add("inode=" + trace.identity().inode());
    lines.add("size=" + trace.identity().sizeBytes());
    lines.add("mtime=" + trace.identity().mtimeNanos());
    ProcessIdentity.of(process.getAsInt())
        .ifPresent(of -> lines.add(PROCESS + "=" + of.pid() + " " + of.startTicks()));
    lines.add("");
    return String.join("\n", lines);
  }

  private void write(String text) throws IOException {
    Path temporary = path.resolveSibling(path.getFileName() + ".new");
    try (NativeFile file = NativeFile.open(temporary, NativeFile.Mode.WRITE_CREATE_TRUNCATE)) {
      file.writeBytesAt(text.getBytes(StandardCharsets.UTF_8), 0);
    }
    // Not synced: it is for a guest that lives on when the daemon dies, and no guest outlives the
    // machine.
    Files.move(temporary, path, StandardCopyOption.ATOMIC_MOVE);
  }

  /** One line, whatever a path has in it. */
  private static String escape(String value) {
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < value.length(); i++) {
      char next = value.charAt(i);
      if (next < ' ' || next == '%' || next == '=' || next == '\u0085' || next == '\u007f') {
        text.append("%%%02X".formatted((int) next));
      } else {
        text.append(next);
      }
    }
    return text.toString();
  }

  private static String unescape(String text) throws IOException {
    StringBuilder value = new StringBuilder();
    for (int i = 0; i < text.length(); i++) {
      if (text.charAt(i) != '%') {
        value.append(text.charAt(i));
      } else if (i + 2 < text.length()) {
        value.append((char) Integer.parseInt(text, i + 1, i + 3, 16));
        i += 2;
      } else {
        throw new IOException("ends within an escaped character");
      }
    }
    return value.toString();
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

  /**
   * Whether what was left is about another process than this one: an earlier guest at the same
   * place, whose memory would be the end of this one.
   *
   * @param pid of the guest as it is now; 0 if it is not known, which is believed
   */
  public boolean isOfAnother(int pid) {
    try {
      for (String line : Files.readAllLines(path, StandardCharsets.UTF_8)) {
        if (line.startsWith(PROCESS + "=")) {
          String[] words = line.substring(PROCESS.length() + 1).split(" ", 2);
          return new ProcessIdentity(Integer.parseInt(words[0]), Long.parseLong(words[1]))
              .isOther(pid);
        }
      }
    } catch (IOException | RuntimeException e) {
      log.debug("not known whose load was left path={}", path, e);
    }
    return false;
  }

  private Optional<Trace> parse(List<String> lines) throws IOException {
    if (lines.isEmpty() || !lines.getFirst().equals(HEAD)) {
      throw new IOException("does not begin with '" + HEAD + "'");
    }
    Map<String, String> values = new HashMap<>();
    Map<String, PageSize> pageSizes = new HashMap<>();
    List<String> extraBlocks = new ArrayList<>();
    for (String line : lines.subList(1, lines.size())) {
      int equals = line.indexOf('=');
      if (equals > 0) {
        String key = unescape(line.substring(0, equals));
        String value = unescape(line.substring(equals + 1));
        if (key.startsWith(PAGE_SIZE)) {
          pageSizes.put(key.substring(PAGE_SIZE.length()), PageSize.ofBytes(Long.parseLong(value)));
        } else if (key.startsWith(EXTRA_BLOCK)) {
          extraBlocks.add(key.substring(EXTRA_BLOCK.length()));
        } else {
          values.put(key, value);
        }
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
            new Terms(pageSizes, Map.of(), required(values, "preempt").equals("on"), extraBlocks),
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
