package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.LibvirtLab;
import dev.postcopyd.lab.QemuLab;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * {@code virsh restore} and {@code virsh start} of domains whose emulator is postcopyd-qemu, with
 * {@code postcopyd libvirt-agent} and without.
 */
@Timeout(240)
@SuppressWarnings("NullAway.Init")
class LibvirtEmulatorE2E {
  private static final String NAME = "vm";
  private static final int DATA_MIB = 64;

  private static LibvirtLab libvirt;
  private static Path directory;
  private static String emulator;
  private static Path booted;

  private @Nullable Process agent;
  private Path agentLog;

  @BeforeAll
  static void start() throws Exception {
    QemuLab lab = QemuLab.require();
    lab.requireLibvirt();
    directory = Files.createTempDirectory(lab.root().resolve("daemon/target"), "le");
    libvirt = LibvirtLab.start(lab, directory, "save_image_format = \"sparse\"");
    Path wrapper = directory.resolve("postcopyd-qemu-system-x86_64");
    Files.copy(lab.postcopyd().resolveSibling("postcopyd-qemu"), wrapper);
    Files.setPosixFilePermissions(wrapper, PosixFilePermissions.fromString("rwxr-xr-x"));
    emulator = wrapper.toString();
    booted = libvirt.saveBooted(NAME, 192, DATA_MIB, emulator);
  }

  @AfterAll
  static void end() throws Exception {
    if (libvirt != null) {
      libvirt.close();
      try (var files = Files.walk(directory)) {
        for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
          Files.delete(file);
        }
      }
    }
  }

  @AfterEach
  void destroy() throws Exception {
    var _ = libvirt.run("virsh", "-q", "destroy", NAME);
    var _ = libvirt.run("virsh", "-q", "undefine", "--managed-save", NAME);
    endAgent();
  }

  private void beginAgent(String... options) throws Exception {
    agentLog = Files.createTempFile(directory, "agent", "");
    List<String> command = new ArrayList<>(List.of("libvirt-agent", "--group", "libvirt-qemu"));
    command.addAll(List.of(options));
    agent = libvirt.begin(agentLog, libvirt.postcopyd(command.toArray(String[]::new)));
    for (int i = 0; i < 300; i++) {
      if (Files.readString(agentLog).contains("domains are waited for")) {
        return;
      }
      Thread.sleep(50);
    }
    throw new AssertionError("the agent does not listen: " + Files.readString(agentLog));
  }

  private void endAgent() throws Exception {
    Process running = agent;
    agent = null;
    if (running != null) {
      LibvirtLab.kill(running);
    }
  }

  private static Path image() {
    return directory.resolve("vm.save");
  }

  private static void save(String... options) throws Exception {
    List<String> command = new ArrayList<>(List.of("save", NAME, image().toString()));
    command.addAll(List.of("--image-format", "sparse"));
    command.addAll(List.of(options));
    String _ = libvirt.virsh(command.toArray(String[]::new));
  }

  private void assertServed(int times) throws Exception {
    String log = Files.readString(agentLog);
    assertThat(log.split("a domain is restored", -1).length - 1)
        .as("%s\n%s", log, libvirt.story())
        .isEqualTo(times);
    assertThat(log).doesNotContain("refused").doesNotContain("has failed");
  }

  private static void assertRunsAndIsWhole() throws Exception {
    assertThat(libvirt.virsh("domstate", NAME)).isEqualTo("running");
    GuestConsole console = libvirt.console(NAME);
    console.awaitTick();
    GuestConsole.Verification verification = console.verifyAtRandom();
    assertThat(verification.bad()).as("%s", verification).isZero();
    assertThat(verification.pages()).isGreaterThan(DATA_MIB * 256 - 1);
  }

  @Test
  void aRestoreIsLazyAndEverythingElseIsAsEver() throws Exception {
    // Nobody to ask: QEMU restores by itself.
    libvirt.copy(booted, image());
    String _ = libvirt.virsh("restore", image().toString());
    assertRunsAndIsWhole();
    save();

    beginAgent();
    String _ = libvirt.virsh("restore", image().toString());
    // At once: what is missing comes meanwhile.
    String _ = libvirt.virsh("suspend", NAME);
    String _ = libvirt.virsh("resume", NAME);
    assertRunsAndIsWhole();
    assertServed(1);
  }

  private boolean hasCompleted() throws Exception {
    return Files.readString(agentLog).contains("new=COMPLETED");
  }

  @Test
  void aSaveWhileMemoryIsMissingWaitsForIt() throws Exception {
    libvirt.copy(booted, image());
    beginAgent("--bandwidth", "40");
    String _ = libvirt.virsh("restore", image().toString());
    assertThat(hasCompleted()).isFalse();
    Path next = directory.resolve("next.save");
    String _ = libvirt.virsh("save", NAME, next.toString());
    assertThat(hasCompleted()).isTrue();
    String _ = libvirt.virsh("restore", next.toString());
    assertRunsAndIsWhole();
    assertServed(2);
  }

  @Test
  void aManagedSaveIsRestoredLazily() throws Exception {
    String _ = libvirt.virsh("restore", booted.toString());
    String _ = libvirt.virsh("define", libvirt.domain(NAME, 192, DATA_MIB, emulator).toString());
    beginAgent();
    String _ = libvirt.virsh("managedsave", NAME);
    String _ = libvirt.virsh("start", NAME);
    assertThat(directory.resolve("save/vm.save")).doesNotExist();
    assertRunsAndIsWhole();
    assertServed(1);
  }

  @Test
  void libvirtAndThePostcopydMayDieMeanwhile() throws Exception {
    libvirt.copy(booted, image());
    beginAgent("--bandwidth", "32");
    String _ = libvirt.virsh("restore", image().toString());
    assertThat(hasCompleted()).isFalse();
    endAgent();
    Files.delete(image());
    libvirt.restartLibvirtd();
    beginAgent();
    assertRunsAndIsWhole();
    assertServed(1);
    assertThat(libvirt.virsh("domstate", NAME)).isEqualTo("running");
  }

  @Test
  void parallelChannelsPastThePageCache() throws Exception {
    String _ = libvirt.virsh("restore", booted.toString());
    beginAgent();
    save("--parallel-channels", "4", "--bypass-cache");
    String _ =
        libvirt.virsh("restore", image().toString(), "--parallel-channels", "4", "--bypass-cache");
    assertRunsAndIsWhole();
    assertServed(1);
  }
}
