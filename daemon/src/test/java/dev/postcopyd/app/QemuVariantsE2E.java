package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.lab.QemuOptions;
import dev.postcopyd.lab.QemuProcess;
import dev.postcopyd.lab.QmpConnection;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * {@code --guest qemu:MONITOR} with the machines and memories that people have: q35 and pc, 1 to 4
 * vCPUs, memfd, files, huge pages, QEMU 10 and 11, other users. Each time the guest checks every
 * page while it arrives.
 *
 * <p>CI runs what differs most; {@code -Dpostcopyd.soak=N} ({@code scripts/test --soak N}) runs
 * all.
 */
@Timeout(180)
class QemuVariantsE2E {
  private static final boolean ALL = System.getProperty("postcopyd.soak") != null;
  private static final int MEMORY_MIB = 128;
  private static final int DATA_MIB = 32;
  private static final long PAGES = (DATA_MIB + 8 + 8 + 8) * 256L;
  private static final int OTHER_USER = 65532;
  private static final Path HUGE_PAGES = Path.of("/proc/sys/vm/nr_hugepages");

  /** Snapshots by machine and vCPUs, each made once. */
  private static final Map<String, Path> SNAPSHOTS = new HashMap<>();

  private static QemuLab lab;
  private static Path snapshots;

  /** For sockets: their paths must be short. */
  @TempDir Path directory;

  enum Qemu {
    RELEASE_10,
    RELEASE_11
  }

  /** What is special about the machine, but for its memory. */
  enum Special {
    NOTHING,
    MIGRATION_DIRECTORY,
    OTHER_USER,
    PAUSED_TWICE
  }

  /**
   * One machine.
   *
   * @param machine its type without the version, and how many vCPUs it has
   * @param memory options of {@code -object}, with SIZE and FILE to be filled in; empty for none
   * @param guest what is behind {@code --guest qemu:MONITOR}
   */
  record Variant(
      Qemu qemu, String machine, int cpus, String memory, String guest, Special special) {
    @Override
    public String toString() {
      return qemu + " " + machine + " " + cpus + " " + memory + guest + " " + special;
    }

    boolean isHuge() {
      return memory.contains("hugetlb=on");
    }
  }

  private static final String MEMFD = "memory-backend-memfd,id=pc.ram,size=SIZE,share=on";
  private static final String HUGE = MEMFD + ",hugetlb=on,hugetlbsize=2M";
  private static final String RENAMED = "memory-backend-memfd,id=mem0,size=SIZE,share=on";
  private static final String FILE =
      "memory-backend-file,id=pc.ram,size=SIZE,mem-path=FILE,share=on";
  private static final String PRIVATE_FILE =
      "memory-backend-file,id=pc.ram,size=SIZE,mem-path=FILE,share=off";
  private static final String ANONYMOUS = "memory-backend-ram,id=pc.ram,size=SIZE";

  static Stream<Variant> variants() {
    Stream<Variant> few =
        Stream.of(
            new Variant(Qemu.RELEASE_10, "pc-q35", 2, HUGE, "", Special.NOTHING),
            new Variant(Qemu.RELEASE_10, "pc-i440fx", 4, FILE, "", Special.MIGRATION_DIRECTORY),
            new Variant(Qemu.RELEASE_10, "pc-q35", 2, MEMFD, "", Special.OTHER_USER),
            new Variant(Qemu.RELEASE_10, "pc-q35", 2, "", "", Special.PAUSED_TWICE),
            new Variant(
                Qemu.RELEASE_11, "pc-i440fx", 4, RENAMED, ",map.pc.ram=mem0", Special.NOTHING));
    return ALL ? Stream.concat(few, theRest()).distinct() : few;
  }

  /** Every memory on both releases, every number of vCPUs on both machines, the rest on 11 too. */
  private static Stream<Variant> theRest() {
    List<Variant> rest = new ArrayList<>();
    for (Qemu qemu : Qemu.values()) {
      for (String memory : List.of("", ANONYMOUS, MEMFD, HUGE, FILE, PRIVATE_FILE)) {
        rest.add(new Variant(qemu, "pc-i440fx", 1, memory, "", Special.NOTHING));
        rest.add(new Variant(qemu, "pc-q35", 3, memory, ",preempt=off", Special.NOTHING));
      }
      for (int cpus = 1; cpus <= 4; cpus++) {
        rest.add(new Variant(qemu, "pc-q35", cpus, "", "", Special.NOTHING));
        rest.add(new Variant(qemu, "pc-i440fx", cpus, HUGE, "", Special.NOTHING));
      }
      rest.add(new Variant(qemu, "pc-q35", 2, RENAMED, ",map.pc.ram=mem0", Special.NOTHING));
      rest.add(new Variant(qemu, "pc-q35", 2, MEMFD, "", Special.MIGRATION_DIRECTORY));
      rest.add(new Variant(qemu, "pc-i440fx", 4, HUGE, "", Special.PAUSED_TWICE));
      rest.add(new Variant(qemu, "pc-q35", 3, FILE, ",preempt=off", Special.PAUSED_TWICE));
    }
    return rest.stream();
  }

  @BeforeAll
  static void findLab() throws IOException {
    lab = QemuLab.require();
    snapshots = Files.createTempDirectory(lab.root().resolve("daemon/target"), "variants");
  }

  @AfterAll
  static void deleteSnapshots() throws IOException {
    if (snapshots != null) {
      deleteTree(snapshots);
    }
  }

  private static void deleteTree(Path directory) throws IOException {
    try (Stream<Path> files = Files.walk(directory)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("variants")
  void theGuestFindsEveryPage(Variant variant) throws Exception {
    if (!variant.isHuge()) {
      resume(variant);
      return;
    }
    String before = Files.readString(HUGE_PAGES).strip();
    Files.writeString(HUGE_PAGES, Integer.toString(MEMORY_MIB / 2 + 4));
    try {
      resume(variant);
    } finally {
      Files.writeString(HUGE_PAGES, before);
    }
  }

  private static QemuOptions machine(Variant variant) {
    // The newest machine of release 10: release 11 has it too.
    return QemuOptions.of(variant.machine() + "-10.0", MEMORY_MIB, DATA_MIB)
        .withCpus(variant.cpus());
  }

  private static Path saved(Variant variant) throws Exception {
    String key = variant.machine() + "-" + variant.cpus();
    Path known = SNAPSHOTS.get(key);
    if (known != null) {
      return known;
    }
    Path snapshot = snapshots.resolve(key + ".mr");
    Path sockets = Files.createTempDirectory("variants");
    try (QemuProcess source = QemuProcess.start(lab, machine(variant), sockets)) {
      source.console().awaitFilled();
      source.save("file:" + snapshot, List.of("mapped-ram"));
      source.quit();
    } finally {
      deleteTree(sockets);
    }
    SNAPSHOTS.put(key, snapshot);
    return snapshot;
  }

  private void resume(Variant variant) throws Exception {
    String uri = "file:" + saved(variant);
    Path file = Files.createTempFile(Path.of("/dev/shm"), "postcopyd-variants", "");
    Path socket = directory.resolve("qmp");
    try (QemuProcess qemu = destination(variant, file);
        Daemon _ = Daemon.start(daemon(variant, socket));
        QmpConnection qmp = QmpConnection.to(socket)) {
      if (variant.special() == Special.PAUSED_TWICE) {
        qmp.execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 24 << 20));
      }
      qmp.enableCapabilities(List.of("mapped-ram", "postcopy-ram"));
      qmp.execute("migrate-incoming", Map.of("uri", uri));
      qmp.awaitMigration("postcopy-active");
      if (variant.special() == Special.PAUSED_TWICE) {
        pauseTwice(qmp);
      }
      GuestConsole.Verification found = qemu.console().verifyAtRandom();
      qmp.awaitMigration("completed");
      assertThat(found.bad()).as("%s", found).isZero();
      assertThat(found.pages()).isEqualTo(PAGES);
      assertThat(found.cpus()).isEqualTo(variant.cpus());
      qemu.qmp().awaitMigration("completed");
    } finally {
      Files.delete(file);
    }
  }

  /** The guest runs on meanwhile, as far as it can. */
  private static void pauseTwice(QmpConnection qmp) throws Exception {
    for (int round = 0; round < 2; round++) {
      Thread.sleep(150);
      qmp.execute("migrate-pause");
      qmp.awaitMigration("postcopy-paused");
      qmp.execute("migrate-recover", Map.of("uri", ""));
      qmp.awaitMigration("postcopy-active");
    }
    qmp.execute("migrate-set-parameters", Map.of("max-postcopy-bandwidth", 0));
  }

  private QemuProcess destination(Variant variant, Path file) throws Exception {
    QemuOptions options =
        machine(variant)
            .with("-incoming", "defer", "-qmp", "unix:" + monitor() + ",server=on,wait=off");
    if (!variant.memory().isEmpty()) {
      String memory =
          variant.memory().replace("SIZE", MEMORY_MIB + "M").replace("FILE", file.toString());
      String id = memory.contains("id=mem0") ? "mem0" : "pc.ram";
      options = options.with("-object", memory, "-machine", "memory-backend=" + id);
    }
    QemuLab with = variant.qemu() == Qemu.RELEASE_11 ? lab.withQemu11() : lab;
    Path own = Files.createDirectory(directory.resolve("qemu"));
    if (variant.special() != Special.OTHER_USER) {
      return QemuProcess.start(with, options, directory);
    }
    // The lab may be where only we can go.
    QemuLab readable =
        new QemuLab(
            with.root(), with.qemu(), copy(with.kernel(), own), copy(with.initramfs(), own));
    Files.setAttribute(own, "unix:uid", OTHER_USER);
    Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxr-xr-x"));
    return QemuProcess.start(readable, options.asUser(OTHER_USER), own);
  }

  private static Path copy(Path file, Path directory) throws IOException {
    return Files.copy(
        file, directory.resolve(file.getFileName()), StandardCopyOption.REPLACE_EXISTING);
  }

  private Path monitor() {
    return directory.resolve("qemu").resolve("mon");
  }

  private DaemonConfig daemon(Variant variant, Path socket) throws IOException {
    GuestSpec guest = GuestSpec.parse("qemu:" + monitor() + variant.guest());
    if (variant.special() == Special.MIGRATION_DIRECTORY && guest instanceof GuestSpec.Qemu qemu) {
      guest = qemu.meetingIn(Files.createDirectory(directory.resolve("meet")));
    }
    return DaemonConfig.of(List.of(SocketSpec.parse("unix:" + socket)))
        .withGuest(guest)
        .withIncoming(Optional.empty());
  }
}
