package dev.postcopyd.app;

import dev.postcopyd.control.CommandTable;
import dev.postcopyd.control.EventSink;
import dev.postcopyd.control.HandedOverMigrations;
import dev.postcopyd.control.HandedOverSaves;
import dev.postcopyd.control.TlsObjects;
import dev.postcopyd.fds.FdSets;
import dev.postcopyd.handover.DescriptorKeeper;
import dev.postcopyd.handover.HandoverListener;
import dev.postcopyd.handover.ServiceSupervisor;
import dev.postcopyd.incoming.AggregateStatus;
import dev.postcopyd.incoming.HandedOverContext;
import dev.postcopyd.incoming.HandedOverGuests;
import dev.postcopyd.incoming.LoadLook;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.posix.FileOpener;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The parts of a daemon whose guests hand their memory over: the keeper of their descriptors, the
 * guests, the socket that they come to, and the commands about them. Made, started and closed by
 * {@link Daemon}.
 */
final class HandedOverParts implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(HandedOverParts.class);

  private final GuestSpec.HandedOver spec;
  private final Map<String, Integer> kept;
  private final Optional<ServiceSupervisor> manager;
  private final HandedOverGuests guests;
  private final HandedOverSaves saves;
  private final HandedOverMigrations migrations;
  private @Nullable HandoverListener listener;

  /**
   * Makes the parts; nothing is served yet.
   *
   * @param tls the credentials that clients can name
   * @param environment the process's
   * @throws IOException if nobody keeps the guests' descriptors, and that was not said to be right
   */
  HandedOverParts(
      GuestSpec.HandedOver spec,
      DaemonConfig config,
      GuestParts parts,
      PostcopyMetrics metrics,
      EventSink events,
      ServiceNotices notices,
      FdSets fdSets,
      FileOpener opener,
      TlsObjects tls,
      Map<String, String> environment)
      throws IOException {
    this.spec = spec;
    this.kept = ServiceSupervisor.inherited(environment);
    this.manager = ServiceSupervisor.of(environment);
    DescriptorKeeper keeper =
        manager
            .filter(ServiceSupervisor::isKeeping)
            .<DescriptorKeeper>map(found -> found)
            .orElse(DescriptorKeeper.NONE);
    if (!keeper.isKeeping() && spec.keepFd()) {
      throw new IOException(
          "--guest "
              + spec
              + ": nobody keeps the guests' descriptors, so that a crash of postcopyd would hang its guests or give them zero pages."
              + " Start it by its launcher, which brings a keeper, or by systemd with FileDescriptorStoreMax=,"
              + " or say --no-keep-fd");
    }
    guests =
        new HandedOverGuests(
            new HandedOverContext(
                metrics,
                config.handlers(),
                parts.selfTest()::await,
                config.eagerThreads(),
                config.workingSet(),
                spec.keepFd() ? keeper : DescriptorKeeper.NONE,
                spec.options(),
                config.snapshots().incremental()),
            spec.socket().maxGuests(),
            new Reports(HandedOverMigrations.reportingTo(events, parts.settings()), notices));
    manager.ifPresent(found -> found.alreadyKept(kept.keySet()));
    guests.reserve(kept.keySet());
    saves =
        HandedOverSaves.reportingTo(
            events, parts.settings(), guests, metrics, config.snapshots().bufferBytes());
    migrations =
        new HandedOverMigrations(
            guests,
            fdSets,
            opener,
            tls,
            GuestParts.tls(spec.tls(), TlsCredentials.Endpoint.SERVER),
            saves);
  }

  HandedOverMigrations migrations() {
    return migrations;
  }

  /** Clients and the service manager are told of the state of all guests together. */
  private record Reports(AggregateStatus.Listener clients, ServiceNotices manager)
      implements AggregateStatus.Listener {
    @Override
    public void statusChanged(LoadStatus status) {
      clients.statusChanged(status);
      manager.status("guests: " + words(status));
    }
  }

  /** A state's name, as QMP has it. */
  static String words(LoadStatus status) {
    return status.name().toLowerCase(Locale.ROOT).replace('_', '-');
  }

  /** The guests as somebody sees them who only watches. */
  List<LoadLook> looks() {
    return guests.looks();
  }

  void register(CommandTable table) {
    migrations.registerOwn(table);
  }

  /** Goes on with the guests that an earlier daemon has left. */
  void restore() {
    guests.restore(kept);
  }

  /** Lets guests come. */
  void start() throws IOException {
    listener = HandoverListener.start(spec.socket(), guests);
    log.info(
        "guests awaited socket={} descriptors={}",
        spec.socket().path(),
        manager.filter(ServiceSupervisor::isKeeping).isPresent() && spec.keepFd()
            ? "kept"
            : "not kept");
  }

  @Override
  public void close() {
    HandoverListener listening = listener;
    if (listening != null) {
      listening.close();
    }
    saves.close();
    guests.close();
  }
}
