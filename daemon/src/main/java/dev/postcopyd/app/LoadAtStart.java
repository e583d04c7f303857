package dev.postcopyd.app;

import dev.postcopyd.control.LocalMigrations;
import dev.postcopyd.control.MigrationControl;
import dev.postcopyd.control.MonitorProxy;
import dev.postcopyd.control.SinkLoads;
import dev.postcopyd.control.StreamLoads;
import dev.postcopyd.fds.FdSets;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.incoming.LoadTrace;
import dev.postcopyd.incoming.PausedLoadFile;
import dev.postcopyd.incoming.SinkMigration;
import dev.postcopyd.monitor.MonitorLifeline;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrateIncomingArguments;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.qmp.schema.MigrationCapabilityStatus;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.source.SourceAddress;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What a daemon loads without being asked by a client: the snapshot of {@code --incoming}, and the
 * rest of a load that an earlier daemon has left behind. Used by {@link Daemon} while it starts;
 * what has to wait for a QEMU waits on a thread of its own.
 */
final class LoadAtStart {
  private static final Logger log = LoggerFactory.getLogger(LoadAtStart.class);

  /** A QEMU that has time greets within this. */
  private static final long FIRST_LOOK_MILLIS = 100;

  private static final long LATER_LOOK_MILLIS = 1_000;
  private static final Duration RELEASE_PATIENCE = Duration.ofMillis(500);
  private static final Duration PAUSED_PATIENCE = Duration.ofMillis(500);

  /** A recovery that does not succeed within this waits for something else than QEMU. */
  private static final Duration RECOVERY_PATIENCE = Duration.ofSeconds(2);

  private static final long RECOVERY_STEP_MILLIS = 5;

  private static final Set<MigrationStatus> RECOVERING =
      Collections.unmodifiableSet(
          EnumSet.of(
              MigrationStatus.POSTCOPY_PAUSED,
              MigrationStatus.POSTCOPY_RECOVER_SETUP,
              MigrationStatus.POSTCOPY_RECOVER));

  private final DaemonConfig config;
  private final GuestParts guest;
  private final LocalMigrations migrations;
  private final MigrationControl control;
  private final FdSets fdSets;

  LoadAtStart(
      DaemonConfig config,
      GuestParts guest,
      LocalMigrations migrations,
      MigrationControl control,
      FdSets fdSets) {
    this.config = config;
    this.guest = guest;
    this.migrations = migrations;
    this.control = control;
    this.fdSets = fdSets;
  }

  /** A guest that an earlier daemon has left without the rest of its memory. */
  void adoptPausedLoad() {
    if (guest.loads() instanceof StreamLoads streams) {
      guest.trace().flatMap(PausedLoadFile::find).ifPresent(begun -> adopt(streams, begun));
    } else if (guest.loads() instanceof SinkLoads sinks) {
      adopt(sinks);
    }
  }

  /** A source that has switched its guest over to a sink that died. */
  private void adopt(SinkLoads sinks) {
    try {
      SourceAddress address =
          config.incoming().isPresent()
              ? SourceAddress.parse(config.incoming().get())
              : new SourceAddress.Unknown();
      Optional<SinkMigration> begun = sinks.begunBefore(address);
      if (begun.isPresent()) {
        enable(List.of(MigrationCapability.EVENTS));
        migrations.adopt(
            begun.get(), "the daemon that received the guest has ended; migrate-recover goes on");
        if (sinks.recoversByItself()) {
          migrations.recoverWhereItWas();
        }
      }
    } catch (IOException | IllegalArgumentException | QmpException e) {
      log.error("can't go on with an earlier migration reason=\"{}\"", e.getMessage());
    }
  }

  private void adopt(StreamLoads streams, LoadTrace.Trace begun) {
    try {
      enable(capabilitiesOf(begun));
      migrations.adopt(
          streams.begunBefore(begun, fdSets),
          "the daemon that served the guest has ended ("
              + guest.trace().map(PausedLoadFile::path).orElseThrow()
              + "); migrate-recover goes on, on both sides. If that guest is gone, migrate-incoming"
              + " begins with another");
    } catch (QmpException e) {
      log.error(
          "can't go on with an earlier load snapshot={} reason=\"{}\"",
          begun.snapshotUri(),
          e.description());
    }
  }

  /** As the earlier daemon had them; events too, since they can't be switched on any more. */
  private static List<MigrationCapability> capabilitiesOf(LoadTrace.Trace begun) {
    List<MigrationCapability> capabilities =
        new ArrayList<>(
            List.of(
                MigrationCapability.MAPPED_RAM,
                MigrationCapability.POSTCOPY_RAM,
                MigrationCapability.EVENTS));
    if (begun.preempt()) {
      capabilities.add(MigrationCapability.POSTCOPY_PREEMPT);
    }
    return capabilities;
  }

  /**
   * Loads what the command line says, with both capabilities, and waits until the file is open.
   *
   * @throws IOException if it can't be loaded and that is to end the daemon
   */
  void loadAtOnce() throws IOException {
    Optional<String> incoming = config.incoming();
    if (incoming.isEmpty() || migrations.load().isPresent()) {
      return;
    }
    String uri = incoming.get();
    try (NamedDescriptors none = new NamedDescriptors()) {
      if (!guest.loads().receives()) {
        enable(List.of(MigrationCapability.MAPPED_RAM, MigrationCapability.POSTCOPY_RAM));
      }
      control.migrateIncoming(
          new MigrateIncomingArguments(uri, null, null), guest.settings().view(), none);
    } catch (QmpException e) {
      if (config.exitOnError()) {
        throw new IOException("--incoming " + uri + ": " + e.description());
      }
      log.error("--incoming failed uri={} reason=\"{}\"", uri, e.description());
    }
  }

  private void enable(List<MigrationCapability> capabilities) throws QmpException {
    guest
        .settings()
        .setCapabilities(
            capabilities.stream()
                .map(capability -> new MigrationCapabilityStatus(capability, true))
                .toList(),
            control);
  }

  /**
   * Once there is a QEMU: goes on with the load that it is in the middle of, or loads what the
   * command line says.
   *
   * @param fatalError called if that fails and is to end the daemon
   */
  void whenThereIsQemu(QemuMonitor qemu, MonitorProxy proxy, Consumer<String> fatalError) {
    Thread.ofPlatform()
        .name("incoming")
        .daemon()
        .start(() -> {
          try {
            if (awaitQemu(qemu, proxy)) {
              loadInto(qemu, proxy);
            }
          } catch (QmpException e) {
            log.error("load failed reason=\"{}\"", e.description());
            config
                .incoming()
                .filter(_ -> config.exitOnError())
                .ifPresent(uri -> fatalError.accept("--incoming " + uri + ": " + e.description()));
          } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
          }
        });
  }

  /**
   * What an earlier daemon was loading into this QEMU, if it has noted that down. What it has noted
   * of another one, which had the same monitor, is of no use any more.
   */
  private Optional<String> begunIn(int pid) {
    guest
        .trace()
        .filter(file -> file.isOfAnother(pid))
        .ifPresent(file -> {
          log.info("ignored: a load of another QEMU was left behind path={}", file.path());
          file.remove();
        });
    return guest.trace().flatMap(PausedLoadFile::find).map(LoadTrace.Trace::snapshotUri);
  }

  /** Returns whether there is a QEMU that is not being loaded already. */
  private boolean awaitQemu(QemuMonitor qemu, MonitorProxy proxy) throws InterruptedException {
    int recovered = 0;
    long pauseMillis = FIRST_LOOK_MILLIS;
    while (!qemu.isClosed()) {
      if (isConnected(qemu, pauseMillis)) {
        return recovered == 0 || isAnother(qemu, recovered);
      }
      Optional<MonitorLifeline> line = qemu.lifeline().find();
      if (line.isPresent()) {
        try (MonitorLifeline found = line.get()) {
          if (free(qemu, proxy, found)) {
            recovered = found.peer().pid();
          }
        }
        pauseMillis = FIRST_LOOK_MILLIS;
      } else {
        pauseMillis = Math.min(2 * pauseMillis, LATER_LOOK_MILLIS);
      }
    }
    return false;
  }

  /** Whether the QEMU whose load goes on has ended, and this is the next; its load ends then. */
  private boolean isAnother(QemuMonitor qemu, int pid) throws InterruptedException {
    int now = pidOf(qemu);
    if (now == pid || now == 0) {
      return false;
    }
    migrations.guestEnded("QEMU (pid " + pid + ") has ended, and its guest with it");
    while (RECOVERING.contains(migrations.status())) {
      TimeUnit.MILLISECONDS.sleep(RECOVERY_STEP_MILLIS);
    }
    return true;
  }

  private static int pidOf(QemuMonitor qemu) {
    return qemu.session().map(session -> session.peer().pid()).orElse(0);
  }

  private static boolean isConnected(QemuMonitor qemu, long limitMillis)
      throws InterruptedException {
    try {
      var _ = qemu.connected().get(limitMillis, TimeUnit.MILLISECONDS);
      return true;
    } catch (TimeoutException e) {
      return false;
    } catch (ExecutionException e) {
      throw new IllegalStateException(e);
    }
  }

  /**
   * Makes QEMU let go of the session of a daemon that has ended. If its load is paused, that goes
   * on first: QEMU's main loop may wait for memory already, or begin to when the one session has
   * ended and the next is not negotiated, and then nobody could tell it where that memory is.
   *
   * @return whether a load goes on
   */
  private boolean free(QemuMonitor qemu, MonitorProxy proxy, MonitorLifeline line)
      throws InterruptedException {
    Optional<String> begun = begunIn(line.peer().pid());
    boolean tried = false;
    boolean told = false;
    boolean goesOn = false;
    try {
      while (!qemu.isClosed()) {
        if (!tried && begun.isPresent() && line.isPaused(PAUSED_PATIENCE)) {
          tried = true;
          qemu.lifeline().use(line);
          goesOn = goOn(proxy, config.incoming().orElse(begun.get()));
        }
        if (goesOn) {
          awaitRecovery();
        }
        if (line.release(RELEASE_PATIENCE)) {
          log.info("the session of an earlier daemon has been ended monitor={}", qemu.path());
          return goesOn;
        }
        if (!told && begun.isEmpty()) {
          log.error(
              "QEMU waits for memory and nothing tells which snapshot it is from: start postcopyd"
                  + " with the --qmp socket of the daemon that has ended monitor={}",
              qemu.path());
        } else if (!told && !goesOn) {
          log.warn(
              "QEMU holds the session of a daemon that has ended, and does not let go of it yet"
                  + " monitor={}",
              qemu.path());
        }
        told = true;
      }
      return goesOn;
    } finally {
      qemu.lifeline().use(null);
    }
  }

  /** Returns whether the load goes on; whoever has a session of its own will say why it doesn't. */
  private boolean goOn(MonitorProxy proxy, String uri) {
    log.info("the load goes on through the session of the daemon that has ended uri={}", uri);
    guest.selfTest().hurry();
    try {
      proxy.goOnWithoutAsking(uri);
      return true;
    } catch (QmpException e) {
      log.warn("recovery is refused uri={} reason=\"{}\"", uri, e.description());
      return false;
    }
  }

  /** Returns when the load is served again, or is not going to be soon: clients want a session. */
  private void awaitRecovery() throws InterruptedException {
    long deadlineNanos = System.nanoTime() + RECOVERY_PATIENCE.toNanos();
    while (RECOVERING.contains(migrations.status()) && System.nanoTime() < deadlineNanos) {
      TimeUnit.MILLISECONDS.sleep(RECOVERY_STEP_MILLIS);
    }
  }

  private void loadInto(QemuMonitor qemu, MonitorProxy proxy) throws QmpException {
    Optional<String> begun = begunIn(pidOf(qemu));
    Optional<String> uri = config.incoming().or(() -> begun);
    if (uri.isEmpty()) {
      return;
    }
    if (begun.isPresent()) {
      // A guest stands still. Should the note not be true, the load itself waits for the test.
      guest.selfTest().hurry();
    } else {
      guest.warmUp();
    }
    if (!proxy.goOnWith(uri.get(), begun.isPresent())) {
      guest.trace().ifPresent(PausedLoadFile::remove);
      if (config.incoming().isPresent()) {
        proxy.loadAtOnce(uri.get());
      }
    }
  }
}
