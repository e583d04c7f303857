package dev.postcopyd.app;

import dev.postcopyd.control.CommandTable;
import dev.postcopyd.control.ControlCommands;
import dev.postcopyd.control.DescriptorCommands;
import dev.postcopyd.control.GuestLoads;
import dev.postcopyd.control.HumanMonitor;
import dev.postcopyd.control.LocalMigrations;
import dev.postcopyd.control.MigrationCommands;
import dev.postcopyd.control.MigrationControl;
import dev.postcopyd.control.MigrationSettings;
import dev.postcopyd.control.MonitorGreeting;
import dev.postcopyd.control.MonitorProxy;
import dev.postcopyd.control.QemuLoads;
import dev.postcopyd.control.QmpServer;
import dev.postcopyd.control.QmpServerSettings;
import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.control.StreamLoads;
import dev.postcopyd.fds.FdSets;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.incoming.FaultPathSelfTest;
import dev.postcopyd.incoming.IncomingContext;
import dev.postcopyd.incoming.LoadTrace;
import dev.postcopyd.incoming.PausedLoadFile;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.incoming.StreamPathSelfTest;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.HttpEndpoint;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.QmpVersion;
import dev.postcopyd.qmp.schema.HonouredCapabilities;
import dev.postcopyd.qmp.schema.MigrateIncomingArguments;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.qmp.schema.MigrationCapabilityStatus;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.QmpEvents;
import dev.postcopyd.qmp.schema.QmpSchema;
import dev.postcopyd.qmp.schema.ShutdownCause;
import dev.postcopyd.qmp.schema.ShutdownEvent;
import dev.postcopyd.qmp.schema.SysEmuTarget;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
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
  private final MigrationSettings settings;
  private final SelfTestResult selfTest;
  private final QmpServer server;
  private final GuestLoads loads;
  private final LocalMigrations migrations;
  private final MigrationControl control;
  private final CountDownLatch ended = new CountDownLatch(1);
  private final AtomicBoolean closed = new AtomicBoolean();
  private final AtomicInteger exitCode = new AtomicInteger();
  private final AtomicReference<@Nullable String> endReason = new AtomicReference<>();
  private final @Nullable QemuMonitor monitor;
  private final @Nullable MonitorProxy proxy;
  private @Nullable HttpEndpoint http;

  private Daemon(DaemonConfig config, boolean rehearsal) throws IOException {
    monitor =
        config.guest() instanceof GuestSpec.Qemu qemu ? new QemuMonitor(qemu.monitor()) : null;
    selfTest =
        SelfTestResult.start(
            rehearsal
                ? () -> {}
                : switch (config.guest()) {
                  case GuestSpec.Memory _ -> Daemon::testFaultPath;
                  case GuestSpec.Stream _ -> StreamPathSelfTest::run;
                  case GuestSpec.Qemu _ -> QemuPathSelfTest::run;
                });
    settings =
        switch (config.guest()) {
          case GuestSpec.Memory _ ->
              new MigrationSettings(
                  HonouredCapabilities.MEMORY_GUEST, () -> selfTest.trouble().orElse(null));
          // The userfaultfd is on the other side.
          case GuestSpec.Stream _ ->
              new MigrationSettings(HonouredCapabilities.STREAM_GUEST, () -> null);
          // QEMU judges.
          case GuestSpec.Qemu _ ->
              new MigrationSettings(HonouredCapabilities.all("qemu"), () -> null);
        };
    QmpVersion version =
        new QmpVersion(
            QEMU_RELEASE[0],
            QEMU_RELEASE[1],
            QEMU_RELEASE[2],
            "postcopyd " + ProductVersion.current());
    CommandTable table = new CommandTable(QmpSchema.STANDARD);
    QmpServerSettings limits = QmpServerSettings.of(version);
    server =
        monitor == null
            ? new QmpServer(limits, table)
            : new QmpServer(limits, table, new MonitorGreeting(monitor, version));
    loads = loads(config);
    migrations =
        LocalMigrations.reportingTo(
            server, settings, loads, loader, metrics, () -> end(1, "a load has failed"));
    control = migrations.control(fdSets, config.exitOnError());
    if (monitor == null) {
      proxy = null;
      registerOwn(table, config, version);
    } else {
      proxy = MonitorProxy.register(table, server, monitor, fdSets, settings, control);
      monitor.addListener(new GuestEnd());
    }
    for (MigrationStatus status : MigrationStatus.values()) {
      metrics.exportState(status.wireName(), migrations, of -> of.status() == status ? 1 : 0);
    }
  }

  /** All commands are the daemon's, because there is no QEMU behind it. */
  private void registerOwn(CommandTable table, DaemonConfig config, QmpVersion version) {
    ControlCommands.register(
        table,
        new ControlCommands.Identity(version, config.name().orElse(null), config.uuid(), target()),
        server,
        () -> end(0, "quit"));
    DescriptorCommands.register(table, fdSets);
    MigrationCommands.register(table, control, settings);
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

  /** In the run that makes the AOT cache every kind of guest has its turn. */
  private static void testFaultPath() throws IOException {
    FaultPathSelfTest.run();
    if (Boolean.getBoolean("postcopyd.training")) {
      QemuPathSelfTest.run();
    }
  }

  private GuestLoads loads(DaemonConfig config) {
    return switch (config.guest()) {
      case GuestSpec.Memory memory ->
          GuestLoads.memory(
              new IncomingContext(
                  loader,
                  metrics,
                  memory.layout(),
                  config.handlers(),
                  selfTest::await,
                  config.eagerThreads(),
                  config.workingSet()));
      case GuestSpec.Stream stream ->
          new StreamLoads(
              stream.address(),
              stream.options(),
              loader,
              metrics,
              config.handlers(),
              selfTest::await,
              () -> settings.view().parameters().maxPostcopyBandwidth(),
              config.workingSet(),
              trace(config).<LoadTrace>map(file -> file).orElse(LoadTrace.NONE));
      case GuestSpec.Qemu qemu ->
          new QemuLoads(
              Objects.requireNonNull(monitor),
              qemu.options(),
              loader,
              metrics,
              config.handlers(),
              selfTest::await,
              () -> settings.view().parameters().maxPostcopyBandwidth(),
              config.workingSet(),
              trace(config).<LoadTrace>map(file -> file).orElse(LoadTrace.NONE));
    };
  }

  /**
   * Beside the first unix socket, for only that is known to be the daemon's own. Without one
   * (restore) beside the monitor, if that is possible: the same command must not go on with another
   * file.
   */
  private static Optional<PausedLoadFile> trace(DaemonConfig config) {
    return config.qmp().stream()
        .filter(SocketSpec.Unix.class::isInstance)
        .map(spec -> Path.of(((SocketSpec.Unix) spec).path() + ".load"))
        .findFirst()
        .or(() -> besideMonitor(config.guest()))
        .map(path -> new PausedLoadFile(path, config.guest().toString()));
  }

  private static Optional<Path> besideMonitor(GuestSpec guest) {
    if (!(guest instanceof GuestSpec.Qemu qemu)) {
      return Optional.empty();
    }
    Path path = Path.of(qemu.monitor().toAbsolutePath() + ".load");
    Path directory = path.getParent();
    return directory != null && Files.isWritable(directory) ? Optional.of(path) : Optional.empty();
  }

  /** A guest that an earlier daemon has left without the rest of its memory. */
  private void adoptPausedLoad(DaemonConfig config) {
    if (!(loads instanceof StreamLoads streams)) {
      return;
    }
    trace(config)
        .flatMap(PausedLoadFile::find)
        .ifPresent(begun -> {
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
        });
  }

  /**
   * Starts a daemon; when this returns it listens.
   *
   * @throws IOException if a socket can't be opened; nothing is left open then
   */
  public static Daemon start(DaemonConfig config) throws IOException {
    return start(config, false);
  }

  /** Starts a daemon that the self-test of another one commands: it has none itself. */
  static Daemon rehearse(DaemonConfig config) throws IOException {
    return start(config, true);
  }

  private static Daemon start(DaemonConfig config, boolean rehearsal) throws IOException {
    Daemon daemon = new Daemon(config, rehearsal);
    try {
      daemon.listen(config);
    } catch (IOException | RuntimeException e) {
      daemon.close();
      throw e;
    }
    return daemon;
  }

  private void listen(DaemonConfig config) throws IOException {
    adoptPausedLoad(config);
    server.start(config.qmp());
    if (config.http().isPresent()) {
      http = HttpEndpoint.start(config.http().get(), registry, Optional::empty, this::whyNotReady);
    }
    MonitorProxy toQemu = proxy;
    if (monitor != null && toQemu != null) {
      monitor.start();
      whenThereIsQemu(monitor, toQemu, config);
    } else if (config.incoming().isPresent()) {
      loadAtOnce(config.incoming().get(), config.exitOnError());
    }
  }

  /** Waits for the session with QEMU's monitor. */
  void awaitQemu(Duration patience) throws IOException {
    QemuMonitor qemu = Objects.requireNonNull(monitor, "the guest is no QEMU");
    try {
      var _ = qemu.connected().get(patience.toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted while waiting for QEMU", e);
    } catch (ExecutionException | TimeoutException e) {
      throw new IOException(qemu.trouble(), e);
    }
  }

  /** What is to be done without being asked, once there is a QEMU. */
  private void whenThereIsQemu(QemuMonitor qemu, MonitorProxy toQemu, DaemonConfig config) {
    Optional<PausedLoadFile> trace = trace(config);
    Optional<String> begun = trace.flatMap(PausedLoadFile::find).map(LoadTrace.Trace::snapshotUri);
    Optional<String> uri = config.incoming().or(() -> begun);
    if (uri.isEmpty()) {
      return;
    }
    boolean wanted = config.incoming().isPresent();
    var _ =
        qemu.connected()
            .thenAcceptAsync(
                _ -> {
                  selfTest.await();
                  try {
                    if (!toQemu.goOnWith(uri.get())) {
                      trace.ifPresent(PausedLoadFile::remove);
                      if (wanted) {
                        toQemu.loadAtOnce(uri.get());
                      }
                    }
                  } catch (QmpException e) {
                    log.error("load failed uri={} reason=\"{}\"", uri.get(), e.description());
                    if (wanted && config.exitOnError()) {
                      end(1, "--incoming " + uri.get() + ": " + e.description());
                    }
                  }
                },
                task -> Thread.ofPlatform().name("incoming").daemon().start(task));
  }

  /** What {@code --incoming URI} means: both capabilities, and load. */
  private void loadAtOnce(String uri, boolean exitOnError) throws IOException {
    try (NamedDescriptors none = new NamedDescriptors()) {
      enable(List.of(MigrationCapability.MAPPED_RAM, MigrationCapability.POSTCOPY_RAM));
      control.migrateIncoming(new MigrateIncomingArguments(uri, null, null), settings.view(), none);
    } catch (QmpException e) {
      if (exitOnError) {
        throw new IOException("--incoming " + uri + ": " + e.description());
      }
      log.error("--incoming failed uri={} reason=\"{}\"", uri, e.description());
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

  private void enable(List<MigrationCapability> capabilities) throws QmpException {
    settings.setCapabilities(
        capabilities.stream()
            .map(capability -> new MigrationCapabilityStatus(capability, true))
            .toList(),
        control);
  }

  /** Why a load can't be begun, or not yet; empty when it can. */
  public Optional<String> whyNotReady() {
    if (closed.get()) {
      return Optional.of("the daemon is shutting down");
    }
    QemuMonitor qemu = monitor;
    if (qemu == null) {
      return selfTest.whyNotReady();
    }
    return qemu.session().isPresent() ? Optional.empty() : Optional.of(qemu.trouble());
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
    return migrations.status();
  }

  /** Why the latest load has failed, or is paused. */
  public Optional<String> errorDesc() {
    return migrations.errorDesc();
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
    if (monitor == null) {
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
    server.stopListening();
    // Loads and saves end before the connections, so that clients still hear of it.
    migrations.close();
    loader.close();
    QemuMonitor qemu = monitor;
    if (qemu != null) {
      qemu.close();
    }
    server.close();
    HttpEndpoint endpoint = http;
    if (endpoint != null) {
      endpoint.close();
    }
    fdSets.close();
    ended.countDown();
  }
}
