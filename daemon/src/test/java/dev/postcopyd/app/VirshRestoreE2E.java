package dev.postcopyd.app;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.lab.GuestConsole;
import dev.postcopyd.lab.LibvirtLab;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.testdata.GoldenSnapshot;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** {@code postcopyd virsh-restore}, the packaged program, with a real libvirt. */
@Timeout(240)
@SuppressWarnings("NullAway.Init")
class VirshRestoreE2E {
  private static final String EMULATOR = "/usr/bin/qemu-system-x86_64";
  private static final String NAME = "vm";
  private static final int DATA_MIB = 64;
  private static final long PATIENCE_SECONDS = 90;

  private static LibvirtLab libvirt;
  private static Path directory;
  private static Path booted;

  @BeforeAll
  static void start() throws Exception {
    QemuLab lab = QemuLab.require();
    lab.requireLibvirt();
    // Not the temporary directory: that may be a tmpfs, and images are read past the page cache.
    directory = Files.createTempDirectory(lab.root().resolve("daemon/target"), "lv");
    libvirt = LibvirtLab.start(lab, directory, "save_image_format = \"sparse\"");
    booted = libvirt.saveBooted(NAME, 192, DATA_MIB, EMULATOR);
  }

  @AfterAll
  static void end() throws Exception {
    if (libvirt != null) {
      libvirt.close();
      try (var files = Files.walk(directory)) {
        for (Path file : files.sorted(java.util.Comparator.reverseOrder()).toList()) {
          Files.delete(file);
        }
      }
    }
  }

  @AfterEach
  void destroy() throws Exception {
    var _ = libvirt.run("virsh", "-q", "destroy", NAME);
    var _ = libvirt.run("virsh", "-q", "undefine", "--managed-save", NAME);
  }

  private static Path image() {
    return directory.resolve("vm.save");
  }

  /** A domain whose guest has filled its memory, saved. */
  private void saved() throws Exception {
    libvirt.copy(booted, image());
  }

  /** A restore that has begun; closing does not end it. */
  private record Restore(Process process, Path errors) {
    static Restore begin(String... more) throws IOException {
      List<String> command = new ArrayList<>(List.of("virsh-restore"));
      command.addAll(List.of(more));
      Path errors = Files.createTempFile(directory, "restore", "");
      return new Restore(
          libvirt.begin(errors, libvirt.postcopyd(command.toArray(String[]::new))), errors);
    }

    static Restore of(Path image, String... more) throws IOException {
      List<String> arguments = new ArrayList<>(List.of(image.toString()));
      arguments.addAll(List.of(more));
      return begin(arguments.toArray(String[]::new));
    }

    String said() throws IOException {
      return Files.readString(errors);
    }

    Restore expectSuccess() throws Exception {
      assertThat(process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)).as("%s", said()).isTrue();
      assertThat(process.exitValue()).as("%s %s", said(), libvirt.story()).isZero();
      return this;
    }

    /** Reads the program's JSON until it says this. */
    void awaitWord(String word) throws IOException {
      BufferedReader output = process.inputReader();
      String line = output.readLine();
      while (line != null && !line.contains(word)) {
        line = output.readLine();
      }
      assertThat(line).as("%s %s", word, said()).isNotNull();
    }
  }

  private static GuestConsole assertRunsAndIsWhole() throws Exception {
    assertThat(libvirt.virsh("domstate", NAME)).isEqualTo("running");
    GuestConsole console = libvirt.console(NAME);
    console.awaitTick();
    GuestConsole.Verification verification = console.verifyAtRandom();
    assertThat(verification.bad()).as("%s", verification).isZero();
    assertThat(verification.pages()).isGreaterThan(DATA_MIB * 256 - 1);
    return console;
  }

  /** What killed processes have left stays. */
  private static List<Path> leftovers() throws IOException {
    try (var files = Files.list(directory.resolve("var/lib/qemu"))) {
      return files.filter(file -> file.toString().contains("postcopyd-")).sorted().toList();
    }
  }

  @Test
  void theGuestRunsAtOnceAndIsWhole() throws Exception {
    List<Path> before = leftovers();
    saved();
    Restore restore = Restore.of(image()).expectSuccess();
    assertThat(restore.said()).contains("The guest ran after");
    var _ = assertRunsAndIsWhole();
    assertThat(image()).exists();
    assertThat(Path.of(image() + ".ws")).exists();
    assertThat(leftovers()).isEqualTo(before);

    // What libvirt saves of it both restore.
    String _ = libvirt.virsh("save", NAME, image().toString(), "--image-format", "sparse");
    String _ = libvirt.virsh("restore", image().toString());
    var _ = assertRunsAndIsWhole();
    String _ = libvirt.virsh("save", NAME, image().toString(), "--image-format", "sparse");
    var _ = Restore.of(image(), "--working-set", "off").expectSuccess();
    var _ = assertRunsAndIsWhole();
    assertThat(libvirt.virsh("dumpxml", NAME).split("-incoming", -1)).hasSize(2);
  }

  @Test
  void aManagedSaveStaysUntilItIsNotNeeded() throws Exception {
    String _ = libvirt.virsh("restore", booted.toString());
    String _ = libvirt.virsh("define", libvirt.domain(NAME, 192, DATA_MIB, EMULATOR).toString());
    Path managed = Path.of("/var/lib/libvirt/qemu/save/vm.save");
    Path outside = directory.resolve("save/vm.save");
    String _ = libvirt.virsh("managedsave", NAME);
    assertThat(outside).exists();

    Restore killed = Restore.begin(managed.toString(), "--json");
    killed.awaitWord("resumed-ms");
    LibvirtLab.kill(killed.process());
    Restore _ = Restore.begin(managed.toString()).expectSuccess();

    assertThat(outside).doesNotExist();
    assertThat(Path.of(outside + ".postcopyd")).doesNotExist();
    assertThat(libvirt.virsh("dominfo", NAME)).containsPattern("Managed save: +no");
    var _ = assertRunsAndIsWhole();
  }

  @Test
  void aSaveWhileMemoryIsMissingIsRefused() throws Exception {
    saved();
    Restore restore = Restore.of(image(), "--bandwidth", "32", "--json");
    restore.awaitWord("resumed-ms");
    Path other = directory.resolve("other.save");
    LibvirtLab.Outcome save = libvirt.run("virsh", "-q", "save", NAME, other.toString());
    assertThat(save.exitCode()).isEqualTo(1);
    assertThat(save.errors()).contains("error: internal error: unable to execute QEMU command");
    assertThat(restore.process().isAlive()).as("a load that goes on").isTrue();
    assertThat(libvirt.virsh("domstate", NAME)).isEqualTo("running");
    restore.awaitWord("completed");
    Restore _ = restore.expectSuccess();
    var _ = assertRunsAndIsWhole();
    String _ = libvirt.virsh("save", NAME, other.toString());
  }

  @Test
  void whoWasKilledBeforeItResumedIsRepeated() throws Exception {
    saved();
    // Where it would be when it was killed between the two.
    Restore killed = Restore.of(image(), "--paused", "--bandwidth", "8", "--json");
    killed.awaitWord("\"postcopy-active\"");
    LibvirtLab.kill(killed.process());
    assertThat(libvirt.virsh("domstate", NAME)).isEqualTo("paused");
    Restore _ = Restore.of(image()).expectSuccess();
    var _ = assertRunsAndIsWhole();
  }

  @Test
  void otherFormatsAreRefusedWithTheCommandThatConverts() throws Exception {
    Path raw = directory.resolve("golden.save");
    Files.copy(GoldenSnapshot.ofLibvirt("refused-raw").file(), raw);
    LibvirtLab.Outcome outcome = libvirt.run(libvirt.postcopyd("virsh-restore", raw.toString()));
    assertThat(outcome.exitCode()).isEqualTo(1);
    assertThat(outcome.errors())
        .contains(
            "virsh restore '%1$s' && virsh save 'golden' '%1$s' --image-format sparse"
                .formatted(raw));
    assertThat(libvirt.virsh("list", "--all", "--name")).isEmpty();
  }

  @Test
  void aFailedRestoreLeavesNothing() throws Exception {
    List<Path> before = leftovers();
    saved();
    Path xml = directory.resolve("other.xml");
    String saved = libvirt.virsh("save-image-dumpxml", image().toString(), "--security-info");
    Files.writeString(xml, saved.replaceAll(">196608</", ">131072</"));
    LibvirtLab.Outcome outcome =
        libvirt.run(
            libvirt.postcopyd("virsh-restore", image().toString(), "--xml", xml.toString()));
    assertThat(outcome.exitCode()).as(outcome.errors()).isEqualTo(1);
    assertThat(libvirt.virsh("list", "--all", "--name")).isEmpty();
    assertThat(leftovers()).isEqualTo(before);
    var _ = Restore.of(image()).expectSuccess();
    var _ = assertRunsAndIsWhole();
  }

  @Test
  void libvirtMayBeRestartedAndPostcopydKilledMeanwhile() throws Exception {
    saved();
    Restore killed = Restore.of(image(), "--bandwidth", "32", "--json");
    killed.awaitWord("resumed-ms");
    LibvirtLab.kill(killed.process());
    libvirt.restartLibvirtd();
    Restore _ = Restore.of(image()).expectSuccess();
    var _ = assertRunsAndIsWhole();
  }

  @Test
  void suspendedResumedAndDetached() throws Exception {
    saved();
    Restore _ = Restore.of(image(), "--detach").expectSuccess();
    // The file may go: whoever serves the memory has it open.
    Files.delete(image());
    String _ = libvirt.virsh("suspend", NAME);
    assertThat(libvirt.virsh("domstate", NAME)).isEqualTo("paused");
    String _ = libvirt.virsh("resume", NAME);
    var _ = assertRunsAndIsWhole();
  }

  @Test
  void parallelChannelsPastThePageCache() throws Exception {
    String _ = libvirt.virsh("restore", booted.toString());
    String _ =
        libvirt.virsh(
            "save", NAME, image().toString(), "--parallel-channels", "4", "--bypass-cache");
    Restore _ = Restore.of(image(), "--paused").expectSuccess();
    assertThat(libvirt.virsh("domstate", NAME)).isEqualTo("paused");
    String _ = libvirt.virsh("resume", NAME);
    var _ = assertRunsAndIsWhole();
  }
}
