package dev.postcopyd.posix;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Both versions of control groups, as machines and containers show them, in a made-up /proc. */
class MemoryLimitTest {
  private static final String MACHINE = "all that this machine has, with its swap";
  private static final long GIB = 1L << 30;

  @TempDir Path directory;

  private Path groups = Path.of("");

  @BeforeEach
  void machineOf8GibAnd2GibOfSwap() throws IOException {
    groups = directory.resolve("cgroup");
    write(
        "proc/meminfo",
        "MemTotal:        8388608 kB\nMemFree: 1 kB\nSwapTotal:       2097152 kB\n");
  }

  private void write(String name, String text) throws IOException {
    Path file = directory.resolve(name);
    Files.createDirectories(file.getParent());
    Files.writeString(file, text);
  }

  private void inUnified(String group, String mountedRoot) throws IOException {
    write("proc/self/cgroup", "0::" + group + "\n");
    write(
        "proc/self/mountinfo",
        "22 1 254:1 / / rw,relatime - ext4 /dev/root rw\n"
            + "30 22 0:26 %s %s rw,nosuid - cgroup2 cgroup2 rw\n".formatted(mountedRoot, groups));
  }

  private void inVersionOne(String group, String mountedRoot) throws IOException {
    write("proc/self/cgroup", "5:cpu,cpuacct:/elsewhere\n4:memory:" + group + "\n");
    write(
        "proc/self/mountinfo",
        "31 22 0:27 / %s/cpu rw - cgroup cgroup rw,cpu,cpuacct\n".formatted(directory)
            + "30 22 0:26 %s %s rw shared:4 - cgroup cgroup rw,memory\n"
                .formatted(mountedRoot, groups));
  }

  private MemoryLimit limit() throws IOException {
    return MemoryLimit.read(directory.resolve("proc"));
  }

  @Test
  void withoutControlGroupsTheMachineIsTheLimit() throws IOException {
    assertThat(limit()).isEqualTo(new MemoryLimit(10 * GIB, MACHINE));
  }

  @Test
  void theLowestOfTheGroupAndTheOnesAboveIt() throws IOException {
    inUnified("/pod/container", "/");
    write("cgroup/pod/container/memory.max", "max\n");
    write("cgroup/pod/memory.max", "1073741824\n");
    write("cgroup/pod/memory.swap.max", "0\n");
    assertThat(limit()).isEqualTo(new MemoryLimit(GIB, groups + "/pod/memory.max"));
    write("cgroup/pod/container/memory.max", "536870912\n");
    write("cgroup/pod/container/memory.swap.max", "0\n");
    assertThat(limit()).isEqualTo(new MemoryLimit(GIB / 2, groups + "/pod/container/memory.max"));
  }

  @Test
  void swapCounts() throws IOException {
    inUnified("/", "/");
    write("cgroup/memory.max", "1073741824\n");
    assertThat(limit().bytes()).as("all of the machine's").isEqualTo(3 * GIB);
    write("cgroup/memory.swap.max", "1073741824\n");
    assertThat(limit().bytes()).as("as much as the group may have").isEqualTo(2 * GIB);
    write("cgroup/memory.swap.max", "max\n");
    assertThat(limit().bytes()).isEqualTo(3 * GIB);
  }

  @Test
  void unlimitedGroupsAreNoLimit() throws IOException {
    inUnified("/a", "/");
    write("cgroup/a/memory.max", "max\n");
    assertThat(limit()).isEqualTo(new MemoryLimit(10 * GIB, MACHINE));
    inVersionOne("/a", "/");
    write("cgroup/a/memory.limit_in_bytes", "9223372036854771712\n");
    write("cgroup/a/memory.memsw.limit_in_bytes", "9223372036854771712\n");
    assertThat(limit()).isEqualTo(new MemoryLimit(10 * GIB, MACHINE));
  }

  @Test
  void versionOneHasOneLimitForBoth() throws IOException {
    inVersionOne("/a", "/");
    write("cgroup/a/memory.limit_in_bytes", "1073741824\n");
    assertThat(limit()).isEqualTo(new MemoryLimit(3 * GIB, groups + "/a/memory.limit_in_bytes"));
    write("cgroup/a/memory.memsw.limit_in_bytes", "1610612736\n");
    assertThat(limit().bytes()).isEqualTo(GIB + GIB / 2);
  }

  /** Docker without a namespace of groups: the group's own directory is what is mounted. */
  @Test
  void aContainerSeesItsGroupAsTheMountedRoot() throws IOException {
    inVersionOne("/docker/4711", "/docker/4711");
    write("cgroup/memory.limit_in_bytes", "1073741824\n");
    write("cgroup/memory.memsw.limit_in_bytes", "1073741824\n");
    assertThat(limit().bytes()).isEqualTo(GIB);
    inVersionOne("/docker/4711", "/../elsewhere");
    assertThat(limit().bytes()).as("a root that is not above the group").isEqualTo(GIB);
  }

  @Test
  void thisProcessHasALimitAndUsesSomeOfIt() throws IOException {
    assertThat(MemoryLimit.usedByThisProcess())
        .isBetween(1L << 20, MemoryLimit.ofThisProcess().bytes());
  }
}
