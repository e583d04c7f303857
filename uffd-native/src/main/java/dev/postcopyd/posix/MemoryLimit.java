package dev.postcopyd.posix;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * The most memory that this process could ever have, swap included, and who says so: the machine,
 * or the lowest limit of the control groups that it is in.
 *
 * <p>What lies above the limit is not to be had, so it is no estimate: the kernel would kill the
 * process rather than let it go beyond. What lies below may be in others' use. Huge pages have a
 * pool of their own ({@link HugePages}) and are not meant. Facts: proc(5), cgroups(7), and the
 * kernel's admin-guide/cgroup-v2 and cgroup-v1/memory. Immutable.
 *
 * @param bytes the limit
 * @param setBy what sets it, as a message can name it
 */
public record MemoryLimit(long bytes, String setBy) {
  private record Hierarchy(boolean unified, Path group, Path top) {
    /** Limits memory alone in both versions. */
    Path memory(Path directory) {
      return directory.resolve(unified ? "memory.max" : "memory.limit_in_bytes");
    }

    /** Limits swap alone in version 2, both together in version 1; is not everywhere. */
    Path swap(Path directory) {
      return directory.resolve(unified ? "memory.swap.max" : "memory.memsw.limit_in_bytes");
    }
  }

  /**
   * The limit as it is now.
   *
   * @throws IOException if /proc does not say
   */
  public static MemoryLimit ofThisProcess() throws IOException {
    return read(Path.of("/proc"));
  }

  /**
   * How much of what counts against the limit, and can only be swapped out, this process has.
   *
   * @throws IOException if /proc does not say
   */
  public static long usedByThisProcess() throws IOException {
    return kibibytes(Files.readAllLines(Path.of("/proc/self/status")), "RssAnon:");
  }

  static MemoryLimit read(Path proc) throws IOException {
    List<String> machine = Files.readAllLines(proc.resolve("meminfo"));
    long swapBytes = kibibytes(machine, "SwapTotal:");
    MemoryLimit lowest =
        new MemoryLimit(
            kibibytes(machine, "MemTotal:") + swapBytes,
            "all that this machine has, with its swap");
    for (Hierarchy hierarchy : hierarchies(proc)) {
      Path directory = hierarchy.group();
      while (directory != null && directory.startsWith(hierarchy.top())) {
        MemoryLimit here = of(hierarchy, directory, swapBytes);
        if (here.bytes() < lowest.bytes()) {
          lowest = here;
        }
        directory = directory.getParent();
      }
    }
    return lowest;
  }

  private static MemoryLimit of(Hierarchy hierarchy, Path directory, long machineSwapBytes) {
    long memory = limit(hierarchy.memory(directory));
    long swap = limit(hierarchy.swap(directory));
    long both =
        hierarchy.unified()
            ? sum(memory, Math.min(swap, machineSwapBytes))
            : Math.min(swap, sum(memory, machineSwapBytes));
    return new MemoryLimit(both, hierarchy.memory(directory).toString());
  }

  private static long sum(long limit, long more) {
    return limit > Long.MAX_VALUE - more ? Long.MAX_VALUE : limit + more;
  }

  /** {@code max}, a file that is not there, and one that can't be read are no limit. */
  private static long limit(Path file) {
    try {
      return Long.parseLong(Files.readString(file).strip());
    } catch (IOException | NumberFormatException none) {
      return Long.MAX_VALUE;
    }
  }

  private static List<Hierarchy> hierarchies(Path proc) throws IOException {
    List<Hierarchy> found = new ArrayList<>();
    Path groups = proc.resolve("self/cgroup");
    if (!Files.exists(groups)) {
      return found;
    }
    List<String> mounts = Files.readAllLines(proc.resolve("self/mountinfo"));
    for (String line : Files.readAllLines(groups)) {
      String[] fields = line.split(":", 3);
      boolean unified = fields[1].isEmpty();
      if (!unified && !Arrays.asList(fields[1].split(",", -1)).contains("memory")) {
        continue;
      }
      for (String mount : mounts) {
        String[] sides = mount.split(" - ", 2);
        String[] left = sides[0].split(" ", -1);
        String[] right = sides[1].split(" ", -1);
        boolean mountedHere =
            unified
                ? right[0].equals("cgroup2")
                : right[0].equals("cgroup")
                    && Arrays.asList(right[2].split(",", -1)).contains("memory");
        if (mountedHere) {
          found.add(new Hierarchy(unified, group(left[3], left[4], fields[2]), Path.of(left[4])));
        }
      }
    }
    return found;
  }

  /** A container may see its own group mounted where others have the root of all groups. */
  private static Path group(String mountedRoot, String mountPoint, String group) {
    Path below =
        Path.of(group).startsWith(mountedRoot)
            ? Path.of(mountedRoot).relativize(Path.of(group))
            : Path.of("");
    return Path.of(mountPoint).resolve(below).normalize();
  }

  private static long kibibytes(List<String> lines, String key) throws IOException {
    for (String line : lines) {
      if (line.startsWith(key)) {
        String[] words = line.substring(key.length()).strip().split(" ", -1);
        return Long.parseLong(words[0]) << 10;
      }
    }
    throw new IOException("/proc has no line " + key);
  }
}
