package dev.postcopyd.posix;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** The mappings of a process, as {@code /proc/PID/smaps} tells them. Immutable. */
public final class ProcessMappings {
  private final List<Mapping> mappings;

  /**
   * One of them.
   *
   * @param shared whether it is MAP_SHARED
   * @param anonymous whether there is no file behind it, not even one of huge pages
   * @param flags the line VmFlags: two letters each, {@code uw} for write protection by userfaultfd
   */
  public record Mapping(long start, long end, boolean shared, boolean anonymous, String flags) {
    boolean contains(long from, long to) {
      return Long.compareUnsigned(start, to) < 0 && Long.compareUnsigned(end, from) > 0;
    }
  }

  private ProcessMappings(List<Mapping> mappings) {
    this.mappings = mappings;
  }

  /**
   * Reads them.
   *
   * @throws IOException without the right to look into the process, or if it is gone
   */
  public static ProcessMappings of(int pid) throws IOException {
    return read(pid, "smaps");
  }

  /**
   * Reads them without their flags: for that the kernel would go through all of their pages.
   *
   * @throws IOException without the right to look into the process, or if it is gone
   */
  public static ProcessMappings withoutFlags(int pid) throws IOException {
    return read(pid, "maps");
  }

  private static ProcessMappings read(int pid, String file) throws IOException {
    boolean flags = file.equals("smaps");
    List<Mapping> found = new ArrayList<>();
    try (BufferedReader lines =
        Files.newBufferedReader(
            Path.of("/proc/" + pid + "/" + file), StandardCharsets.ISO_8859_1)) {
      Mapping current = null;
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        Mapping next = header(line);
        if (next != null && !flags) {
          found.add(next);
        } else if (next != null) {
          current = next;
        } else if (current != null && line.startsWith("VmFlags:")) {
          found.add(
              new Mapping(
                  current.start,
                  current.end,
                  current.shared,
                  current.anonymous,
                  line.substring("VmFlags:".length())));
        }
      }
    } catch (AccessDeniedException e) {
      throw new IOException(
          "no right to look into process "
              + pid
              + ": run postcopyd as the same user or with CAP_SYS_PTRACE (kernel.yama.ptrace_scope"
              + " must allow it), or let the VMM pass a memfd for each mapping",
          e);
    }
    return new ProcessMappings(List.copyOf(found));
  }

  /** {@code START-END PERMISSIONS ...}; null for every other line. */
  private static @Nullable Mapping header(String line) {
    int dash = line.indexOf('-');
    int space = line.indexOf(' ');
    if (dash <= 0 || space < dash || line.length() < space + 5) {
      return null;
    }
    try {
      return new Mapping(
          Long.parseUnsignedLong(line.substring(0, dash), 16),
          Long.parseUnsignedLong(line.substring(dash + 1, space), 16),
          line.charAt(space + 4) == 's',
          line.split(" +", 6)[4].equals("0"),
          "");
    } catch (NumberFormatException | ArrayIndexOutOfBoundsException e) {
      return null;
    }
  }

  /** Those that lie in a range, in part at least. */
  public List<Mapping> within(long start, long end) {
    return mappings.stream().filter(mapping -> mapping.contains(start, end)).toList();
  }
}
