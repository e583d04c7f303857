package dev.postcopyd.guest;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.postcopyd.guest.PostcopyDestination.BlockInfo;
import dev.postcopyd.guest.PostcopyDestination.Offer;
import dev.postcopyd.guest.PostcopyDestination.Terms;
import dev.postcopyd.lab.BareQemu;
import dev.postcopyd.lab.QemuLab;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/** What a real QEMU is asked before a stream is sent to it. */
@SuppressWarnings("NullAway.Init") // each test starts the QEMU that it wants
class QemuDestinationE2E {
  private static final Duration LIMIT = Duration.ofSeconds(20);
  private static final String MACHINE = "pc-i440fx-10.0";

  @TempDir Path directory;

  private BareQemu qemu;
  private QemuMonitor monitor;

  private void start(String... options) throws Exception {
    List<String> all = new ArrayList<>(List.of("-M", MACHINE, "-m", "64M", "-accel", "tcg", "-S"));
    all.addAll(List.of(options));
    qemu = BareQemu.start(QemuLab.require(), directory.resolve("qemu"), all.toArray(String[]::new));
    monitor = new QemuMonitor(qemu.monitor());
    monitor.start();
    monitor.connected().join();
  }

  @AfterEach
  void stop() {
    if (qemu != null) {
      monitor.close();
      qemu.close();
    }
  }

  private static Offer offer(String ram, long ramBytes, boolean preempt) {
    return new Offer(
        Optional.of(MACHINE),
        List.of(new BlockInfo(ram, ramBytes), new BlockInfo("pc.bios", 0x40000)),
        preempt);
  }

  /** A machine that was saved paused; QEMU waits for it when this returns. */
  private static Terms prepare(QemuDestination destination, Offer offer) throws IOException {
    Terms terms = destination.prepare(offer);
    destination.awaitReady(Optional.of("paused"));
    return terms;
  }

  private Map<String, Boolean> capabilities() throws Exception {
    Map<String, Boolean> on = new TreeMap<>();
    for (JsonNode one : monitor.call("query-migrate-capabilities", LIMIT)) {
      on.put(one.path("capability").stringValue(), one.path("state").booleanValue());
    }
    return on;
  }

  private String migration() throws Exception {
    return monitor.call("query-migrate", LIMIT).path("status").asString("none");
  }

  @Test
  @SuppressWarnings("try") // closed in the middle, which is what is tested
  void qemuWaitsOnASocketOfItsOwnForTwoConnections() throws Exception {
    start("-incoming", "defer");
    try (QemuDestination destination = new QemuDestination(monitor, QemuOptions.DEFAULT)) {
      Terms terms = prepare(destination, offer("pc.ram", 64 << 20, true));

      assertThat(terms.preempt()).isTrue();
      assertThat(terms.hostPageSizes()).isEmpty();
      assertThat(terms.destinationNames()).isEmpty();
      assertThat(terms.extraBlocks()).contains("pc.rom").doesNotContain("pc.ram", "pc.bios");
      assertThat(capabilities())
          .containsEntry("postcopy-ram", true)
          .containsEntry("postcopy-preempt", true)
          .containsEntry("postcopy-blocktime", true)
          .containsEntry("events", true)
          .containsEntry("mapped-ram", false)
          .containsEntry("multifd", false);
      assertThat(migration()).isEqualTo("setup");
      Path own;
      try (var entries = Files.list(directory)) {
        own = entries.filter(Files::isDirectory).findFirst().orElseThrow();
      }
      assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(own)))
          .isEqualTo("rwx------");
      FileDescriptors.close(destination.connect());
      assertThat(own).exists();
      destination.close();
      assertThat(own).doesNotExist();
      assertThatThrownBy(destination::connect).hasMessageContaining("given up");
    }
  }

  @Test
  void withoutASecondChannelAPairWillDoWhereThereIsNoDirectory() throws Exception {
    start("-incoming", "defer");
    QemuOptions nowhere =
        new QemuOptions(Map.of(), true, false, Optional.of(directory.resolve("is-not-there")));
    try (QemuDestination destination = new QemuDestination(monitor, nowhere)) {
      assertThatThrownBy(() -> prepare(destination, offer("pc.ram", 64 << 20, true)))
          .isInstanceOf(IOException.class)
          .hasMessageContaining("is-not-there");
      assertThat(migration()).isEqualTo("none");

      assertThat(prepare(destination, offer("pc.ram", 64 << 20, false)).preempt()).isFalse();

      FileDescriptors.close(destination.connect());
    }
  }

  @Test
  void whatQemuWouldRefuseTooLateIsRefusedBefore() throws Exception {
    start("-incoming", "defer");
    QemuOptions options = new QemuOptions(Map.of("m0", "pc.ram"), true, false, Optional.empty());
    try (QemuDestination destination = new QemuDestination(monitor, options)) {
      assertThatThrownBy(
              () -> prepare(destination, new Offer(Optional.of("pc-q35-10.0"), List.of(), true)))
          .hasMessageContaining("type pc-q35-10.0")
          .hasMessageContaining("-M " + MACHINE);
      assertThatThrownBy(() -> prepare(destination, offer("n0", 64 << 20, true)))
          .hasMessageContaining("no RAM block n0")
          .hasMessageContaining("pc.ram")
          .hasMessageContaining("map.n0=NAME");
      assertThatThrownBy(() -> prepare(destination, offer("pc.ram", 128 << 20, true)))
          .hasMessageContaining("has 134217728 bytes in the snapshot and 67108864");
      assertThatThrownBy(() -> prepare(destination, offer("pc.ram", 32 << 20, true)))
          .hasMessageContaining("has 33554432 bytes");
      assertThat(migration()).isEqualTo("none");

      assertThat(prepare(destination, offer("m0", 64 << 20, true)).destinationNames())
          .isEqualTo(Map.of("m0", "pc.ram"));
    }
  }

  @Test
  void aQemuThatDoesNotWaitForAMigrationIsRefused() throws Exception {
    start();
    try (QemuDestination destination = new QemuDestination(monitor, QemuOptions.DEFAULT)) {
      assertThatThrownBy(() -> prepare(destination, offer("pc.ram", 64 << 20, true)))
          .hasMessageContaining("is in state prelaunch")
          .hasMessageContaining("-incoming defer");
      qemu.kill();
      while (monitor.session().isPresent()) {
        Thread.sleep(5);
      }
      assertThatThrownBy(() -> prepare(destination, offer("pc.ram", 64 << 20, true)))
          .hasMessageContaining("is not there");
      assertThat(destination.explanation()).get().asString().contains("QEMU has ended");
    }
  }

  @Test
  void theReasonOfAFailureIsQemus() throws Exception {
    start("-incoming", "defer");
    try (QemuDestination destination = new QemuDestination(monitor, QemuOptions.DEFAULT)) {
      prepare(destination, offer("pc.ram", 64 << 20, false));
      int fd = destination.connect();
      try (FdPassing out = new FdPassing()) {
        out.send(fd, "this is no stream".getBytes(StandardCharsets.US_ASCII));
      }
      while (!migration().equals("failed")) {
        Thread.sleep(5);
      }
      FileDescriptors.close(fd);
      assertThat(destination.explanation()).get().asString().startsWith("QEMU says: ");
      assertThat(qemu.isAlive()).isTrue();
      try (QemuDestination again = new QemuDestination(monitor, QemuOptions.DEFAULT)) {
        assertThatThrownBy(() -> prepare(again, offer("pc.ram", 64 << 20, false)))
            .hasMessageContaining("it is failed")
            .hasMessageContaining("started anew");
      }
    }
  }

  @Test
  void onlyAPausedMigrationIsRecovered() throws Exception {
    start("-incoming", "defer");
    try (QemuDestination destination = new QemuDestination(monitor, QemuOptions.DEFAULT)) {
      assertThatThrownBy(() -> destination.prepareRecovery(Optional.empty()))
          .hasMessageContaining("Migrate recover can only be run when postcopy is paused");
    }
  }
}
