package dev.postcopyd.app;

import dev.postcopyd.control.CommandTable;
import dev.postcopyd.control.ControlCommands;
import dev.postcopyd.control.DescriptorCommands;
import dev.postcopyd.control.HumanMonitor;
import dev.postcopyd.control.LocalMigrations;
import dev.postcopyd.control.MigrationCommands;
import dev.postcopyd.control.MigrationControl;
import dev.postcopyd.control.MonitorGreeting;
import dev.postcopyd.control.MonitorProxy;
import dev.postcopyd.control.QmpServer;
import dev.postcopyd.control.QmpServerSettings;
import dev.postcopyd.control.TlsObjects;
import dev.postcopyd.fds.FdSets;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.HttpEndpoint;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.metrics.Readiness;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.posix.ConfinedDirectory;
import dev.postcopyd.posix.FileOpener;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.QmpVersion;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.OwnCommands;
import dev.postcopyd.qmp.schema.QmpEvents;
import dev.postcopyd.qmp.schema.QmpSchema;
import dev.postcopyd.qmp.schema.ShutdownCause;
import dev.postcopyd.qmp.schema.ShutdownEvent;
import dev.postcopyd.qmp.schema.SysEmuTarget;
import dev.postcopyd.view.LiveView;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A running daemon: the composition root.
 *
 * <p>Starts in the order in which the parts need each other (metrics, loader, commands, sockets,
 * HTTP, then the load that was asked for on the command line) and stops in the opposite order.
 * {@link #close} may be called from any thread and is idempotent.
 */
public final class Daemon implements AutoCloseable {
  /** The QEMU release whose migration schema is implemented; the package names the daemon. */
  private static final int[] QEMU_RELEASE = {10, 0, 2};

  private static final Logger log = LoggerFactory.getLogger(Daemon.class);

  private final PrometheusMeterRegistry registry =
      new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  private final PostcopyMetrics metrics = new PostcopyMetrics(registry);
  private final Loader loader = new Loader();
  private final FdSets fdSets = new FdSets();
  private final GuestParts guestParts;
  private final QmpServer server;
  private final LocalMigrations migrations;
  private final LoadAtStart loadAtStart;
  private final CountDownLatch ended = new CountDownLatch(1);
  private final AtomicBoolean closed = new AtomicBoolean();
  private final AtomicInteger exitCode = new AtomicInteger();
  private final AtomicReference<@Nullable String> endReason = new AtomicReference<>();
  private final ServiceNotices notices;
  private final @Nullable ConfinedDirectory snapshotDir;
  private final @Nullable MonitorProxy proxy;
  private final @Nullable HandedOverParts handedOver;
  private final Watched watched;
  private @Nullable HttpEndpoint http;

  private Daemon(DaemonConfig config, boolean rehearsal, ServiceNotices notices)
      throws IOException {
    this.notices = notices;
    snapshotDir =
        config.snapshotDir().isPresent()
            ? ConfinedDirectory.open(config.snapshotDir().get())
            : null;
    guestParts = new GuestParts(config, rehearsal, loader, metrics);
    QmpVersion version =
        new QmpVersion(
            QEMU_RELEASE[0],
            QEMU_RELEASE[1],
            QEMU_RELEASE[2],
            "postcopyd " + ProductVersion.current());
    boolean handsOver = config.guest() instanceof GuestSpec.HandedOver;
    boolean takesTls = handsOver || guestParts.loads().takesTls();
    QmpSchema schema = takesTls ? QmpSchema.STANDARD.withObjects() : QmpSchema.STANDARD;
    CommandTable table =
        new CommandTable(handsOver ? schema.with(List.of(OwnCommands.QUERY_GUESTS)) : schema);
    TlsObjects tls = new TlsObjects();
    QmpServerSettings limits = QmpServerSettings.of(version);
    QemuMonitor monitor = guestParts.monitor();
    server =
        monitor == null
            ? new QmpServer(limits, table)
            : new QmpServer(limits, table, new MonitorGreeting(monitor, version));
    migrations =
        LocalMigrations.reportingTo(
            server,
            guestParts.settings(),
            guestParts.loads(),
            loader,
            metrics,
            () -> end(1, "a load has failed"));
    migrations.setSnapshots(config.snapshots());
    handedOver =
        config.guest() instanceof GuestSpec.HandedOver spec
            ? new HandedOverParts(
                spec,
                config,
                guestParts,
                metrics,
                server,
                notices,
                fdSets,
                opener(),
                tls,
                System.getenv())
            : null;
    watched = new Watched(config.guest(), metrics, loader, migrations, handedOver);
    loader.addListener(notices);
    MigrationControl control =
        handedOver == null
            ? migrations.control(fdSets, tls, opener(), config.exitOnError())
            : handedOver.migrations();
    loadAtStart = new LoadAtStart(config, guestParts, migrations, control, fdSets);
    if (monitor == null) {
      proxy = null;
      registerOwn(table, config, version, control);
      if (takesTls) {
        tls.register(table);
      }
      if (handedOver != null) {
        handedOver.register(table);
      }
    } else {
      proxy =
          MonitorProxy.register(
              table,
              server,
              monitor,
              Objects.requireNonNull(guestParts.readiness()),
              fdSets,
              guestParts.settings(),
              control);
      monitor.addListener(new GuestEnd());
    }
    for (MigrationStatus status : MigrationStatus.values()) {
      metrics.exportState(status.wireName(), this, of -> of.status() == status ? 1 : 0);
    }
  }

  /** All commands are the daemon's, because there is no QEMU behind it. */
  private void registerOwn(
      CommandTable table, DaemonConfig config, QmpVersion version, MigrationControl control) {
    ControlCommands.register(
        table,
        new ControlCommands.Identity(version, config.name().orElse(null), config.uuid(), target()),
        server,
        () -> end(0, "quit"));
    DescriptorCommands.register(table, fdSets);
    MigrationCommands.register(table, control, guestParts.settings());
    HumanMonitor.register(table);
  }

  /** A load does not outlive its guest. */
  private final class GuestEnd implements QemuMonitor.Listener {
    @Override
    public void ended(QemuMonitor.Session last) {
      migrations.guestEnded(
          "QEMU (pid " + last.peer().pid() + ") has ended, and its guest with it");
    }
  }

  /**
   * Starts a daemon; when this returns it listens.
   *
   * @throws IOException if a socket can't be opened; nothing is left open then
   */
  public static Daemon start(DaemonConfig config) throws IOException {
    return start(config, false, ServiceNotices.NONE);
  }

  /** The same, and tells a service manager of its start, of its loads, and of its end. */
  public static Daemon start(DaemonConfig config, ServiceNotices notices) throws IOException {
    return start(config, false, notices);
  }

  /** Starts a daemon that the self-test of another one commands: it has none itself. */
  static Daemon rehearse(DaemonConfig config) throws IOException {
    return start(config, true, ServiceNotices.NONE);
  }

  private static Daemon start(DaemonConfig config, boolean rehearsal, ServiceNotices notices)
      throws IOException {
    Daemon daemon = new Daemon(config, rehearsal, notices);
    try {
      daemon.listen(config);
      notices.ready();
    } catch (IOException | RuntimeException e) {
      daemon.close();
      throw e;
    }
    return daemon;
  }

  private void listen(DaemonConfig config) throws IOException {
    loadAtStart.adoptPausedLoad();
    server.start(config.qmp());
    if (config.http().isPresent()) {
      http =
          HttpEndpoint.start(
              config.http().get(),
              registry,
              Optional::empty,
              this::readiness,
              new LiveView(watched));
    }
    QemuMonitor monitor = guestParts.monitor();
    MonitorProxy toQemu = proxy;
    if (monitor != null && toQemu != null) {
      monitor.start();
      loadAtStart.whenThereIsQemu(monitor, toQemu, why -> end(1, why));
    } else {
      loadAtStart.loadAtOnce();
    }
    HandedOverParts guests = handedOver;
    if (guests != null) {
      guests.restore();
      guests.start();
    }
  }

  private FileOpener opener() {
    return snapshotDir == null ? FileOpener.ANYWHERE : snapshotDir;
  }

  /** Waits for the session with QEMU's monitor. */
  void awaitQemu(Duration patience) throws IOException {
    QemuMonitor qemu = Objects.requireNonNull(guestParts.monitor(), "the guest is no QEMU");
    try {
      var _ = qemu.connected().get(patience.toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted while waiting for QEMU", e);
    } catch (ExecutionException | TimeoutException e) {
      throw new IOException(qemu.trouble(), e);
    }
  }

  /** Ends the rehearsals and waits for that: a load is to begin at once. */
  public void awaitWarm() {
    guestParts.selfTest().await();
  }

  /** What QEMU itself says of its migration; empty if it does not answer at once. */
  Optional<String> statusOfQemu(Duration patience) {
    QemuMonitor qemu = Objects.requireNonNull(guestParts.monitor(), "the guest is no QEMU");
    try {
      return Optional.of(qemu.call("query-migrate", patience).path("status").asString("none"));
    } catch (IOException | QmpException e) {
      return Optional.empty();
    }
  }

  /** Whether a load would be accepted now. */
  public Readiness readiness() {
    return closed.get()
        ? Readiness.notReady("the daemon is shutting down")
        : guestParts.readinessForLoads();
  }

  /** Why a load that was to begin does not, as far as that is known. */
  public String whyNoLoad() {
    QemuMonitor qemu = guestParts.monitor();
    if (qemu != null && qemu.session().isEmpty()) {
      return qemu.trouble();
    }
    Readiness now = readiness();
    return now.isReady() ? "the load does not begin" : now.words();
  }

  private static SysEmuTarget target() {
    return System.getProperty("os.arch").toLowerCase(Locale.ROOT).equals("aarch64")
        ? SysEmuTarget.AARCH64
        : SysEmuTarget.X86_64;
  }

  /** Where QMP clients are served, with the ports that the kernel chose. */
  public List<SocketAddress> qmpAddresses() {
    return server.addresses();
  }

  /** Where metrics are served, if they are. */
  public Optional<InetSocketAddress> httpAddress() {
    return Optional.ofNullable(http).map(HttpEndpoint::localAddress);
  }

  public PostcopyMetrics metrics() {
    return metrics;
  }

  /** The latest load, whatever has become of it. */
  public Optional<SnapshotLoad> load() {
    return migrations.load();
  }

  /** Where the latest load stands: what query-migrate answers. */
  public MigrationStatus status() {
    HandedOverParts guests = handedOver;
    return guests == null ? migrations.status() : guests.migrations().status();
  }

  /** Why the latest load has failed, or is paused. */
  public Optional<String> errorDesc() {
    return migrations.errorDesc();
  }

  /** Makes a paused load go on where its guest waited before; returns before it does. */
  public void recoverPaused() {
    migrations.recoverWhereItWas();
  }

  /** Why the daemon has ended, if it has. */
  public Optional<String> endReason() {
    return Optional.ofNullable(endReason.get());
  }

  /** The memory of the latest load, once it is ready and as long as it is there. */
  public Optional<LocalGuest> guest() {
    return load().flatMap(SnapshotLoad::guest);
  }

  private void end(int code, String why) {
    log.info("ending reason=\"{}\"", why);
    exitCode.compareAndSet(0, code);
    endReason.compareAndSet(null, why);
    ended.countDown();
  }

  /**
   * Waits until a client, or a load that failed, has ended the daemon.
   *
   * @return the exit code
   */
  public int awaitEnd() throws InterruptedException {
    ended.await();
    return exitCode.get();
  }

  /**
   * Ends the daemon because a signal has come: clients are told before their connections end.
   *
   * @return false if it was ending already
   */
  public boolean closeOnSignal() {
    if (!closed.compareAndSet(false, true)) {
      return false;
    }
    // First, because everything after it may have to wait for others, if only for a log's reader.
    server.stopListening();
    log.info("ending reason=\"signal\"");
    if (guestParts.monitor() == null) {
      // Else it would be QEMU's to say, and QEMU goes on.
      server.emit(QmpEvents.SHUTDOWN, new ShutdownEvent(false, ShutdownCause.HOST_SIGNAL));
    }
    release();
    return true;
  }

  @Override
  public void close() {
    if (closed.compareAndSet(false, true)) {
      release();
    }
  }

  private void release() {
    notices.stopping();
    server.stopListening();
    HandedOverParts guests = handedOver;
    if (guests != null) {
      guests.close();
    }
    // Loads and saves end before the connections, so that clients still hear of it.
    migrations.close();
    loader.close();
    guestParts.close();
    server.close();
    HttpEndpoint endpoint = http;
    if (endpoint != null) {
      endpoint.close();
    }
    fdSets.close();
    if (snapshotDir != null) {
      snapshotDir.close();
    }
    ended.countDown();
  }
}
