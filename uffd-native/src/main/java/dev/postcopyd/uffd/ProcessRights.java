package dev.postcopyd.uffd;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * What {@code /proc/self/status} says about the rights of this process.
 *
 * @param uid the effective user id
 * @param groups the effective group id and the supplementary ones
 * @param canTraceProcesses whether CAP_SYS_PTRACE is effective
 * @param seccompFiltered whether a seccomp filter stands between us and the kernel
 */
record ProcessRights(
    int uid, List<Integer> groups, boolean canTraceProcesses, boolean seccompFiltered) {
  private static final int CAP_SYS_PTRACE = 19;

  ProcessRights {
    groups = List.copyOf(groups);
  }

  static ProcessRights ofThisProcess() throws IOException {
    return parse(Files.readAllLines(Path.of("/proc/self/status")));
  }

  static ProcessRights parse(List<String> lines) {
    Map<String, String> fields = new HashMap<>();
    for (String line : lines) {
      int colon = line.indexOf(':');
      if (colon > 0) {
        fields.put(line.substring(0, colon), line.substring(colon + 1).strip());
      }
    }
    // Uid and Gid: real, effective, saved, file system.
    int uid = Integer.parseInt(word(fields.getOrDefault("Uid", "-1 -1"), 1));
    int gid = Integer.parseInt(word(fields.getOrDefault("Gid", "-1 -1"), 1));
    List<Integer> groups = new java.util.ArrayList<>(List.of(gid));
    for (String group : fields.getOrDefault("Groups", "").split("\\s+", -1)) {
      if (!group.isEmpty() && !groups.contains(Integer.valueOf(group))) {
        groups.add(Integer.valueOf(group));
      }
    }
    long capabilities = Long.parseUnsignedLong(fields.getOrDefault("CapEff", "0"), 16);
    return new ProcessRights(
        uid,
        groups,
        (capabilities >>> CAP_SYS_PTRACE & 1) != 0,
        fields.getOrDefault("Seccomp", "0").equals("2"));
  }

  private static String word(String text, int index) {
    return text.split("\\s+", -1)[index];
  }
}
