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
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrateIncomingArguments;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.qmp.schema.MigrationCapabilityStatus;
import dev.postcopyd.source.SourceAddress;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
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
          migrations.recover("");
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
          "the daemon that served the guest has ended; migrate-recover goes on");
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
    Optional<String> begun =
        guest.trace().flatMap(PausedLoadFile::find).map(LoadTrace.Trace::snapshotUri);
    config
        .incoming()
        .or(() -> begun)
        .ifPresent(uri -> {
          var _ =
              qemu.connected()
                  .thenAcceptAsync(
                      _ -> loadInto(proxy, uri, fatalError),
                      task -> Thread.ofPlatform().name("incoming").daemon().start(task));
        });
  }

  private void loadInto(MonitorProxy qemu, String uri, Consumer<String> fatalError) {
    boolean wanted = config.incoming().isPresent();
    guest.selfTest().await();
    try {
      if (!qemu.goOnWith(uri)) {
        guest.trace().ifPresent(PausedLoadFile::remove);
        if (wanted) {
          qemu.loadAtOnce(uri);
        }
      }
    } catch (QmpException e) {
      log.error("load failed uri={} reason=\"{}\"", uri, e.description());
      if (wanted && config.exitOnError()) {
        fatalError.accept("--incoming " + uri + ": " + e.description());
      }
    }
  }
}
