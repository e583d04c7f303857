package dev.postcopyd.app;

import dev.postcopyd.control.GuestLoads;
import dev.postcopyd.control.MemoryLoads;
import dev.postcopyd.control.MigrationSettings;
import dev.postcopyd.control.QemuLoads;
import dev.postcopyd.control.SinkLoads;
import dev.postcopyd.control.SocketSpec;
import dev.postcopyd.control.StreamLoads;
import dev.postcopyd.guest.QemuReadiness;
import dev.postcopyd.incoming.FaultPathSelfTest;
import dev.postcopyd.incoming.HandedOverSelfTest;
import dev.postcopyd.incoming.IncomingContext;
import dev.postcopyd.incoming.LoadTrace;
import dev.postcopyd.incoming.PausedLoadFile;
import dev.postcopyd.incoming.StreamPathSelfTest;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.metrics.Readiness;
import dev.postcopyd.monitor.QemuMonitor;
import dev.postcopyd.outgoing.background.LocalTrackedGuest;
import dev.postcopyd.qmp.schema.HonouredCapabilities;
import dev.postcopyd.qmp.schema.MigrationCapabilityRules;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import java.util.Optional;
import java.util.function.IntSupplier;
import org.jspecify.annotations.Nullable;

/**
 * The parts of a daemon that are another one for each kind of guest, and the only place that knows
 * all kinds. Made and used by {@link Daemon}, on its thread; owns the monitor, which is closed by
 * {@link #close}.
 */
final class GuestParts implements AutoCloseable {
  private final DaemonConfig config;
  private final Optional<PausedLoadFile> trace;
  private final @Nullable QemuMonitor monitor;
  private final @Nullable QemuReadiness readiness;
  private final SelfTestResult selfTest;
  private final MigrationSettings settings;
  private final GuestLoads loads;

  /**
   * Makes the parts; the self-test begins, the monitor is not connected yet.
   *
   * @param rehearsal whether the daemon is part of another one's self-test and has none itself
   */
  GuestParts(DaemonConfig config, boolean rehearsal, Loader loader, PostcopyMetrics metrics)
      throws IOException {
    this.config = config;
    monitor =
        config.guest() instanceof GuestSpec.Qemu qemu ? new QemuMonitor(qemu.monitor()) : null;
    trace = trace(config, this::guestPid);
    readiness =
        config.guest() instanceof GuestSpec.Qemu qemu && monitor != null
            ? new QemuReadiness(monitor, qemu.options().preempt())
            : null;
    selfTest = SelfTestResult.start(rehearsal ? _ -> {} : selfTestOf(config.guest()));
    settings = newSettings();
    loads = newLoads(loader, metrics);
  }

  private static SelfTestResult.Test selfTestOf(GuestSpec guest) {
    return switch (guest) {
      case GuestSpec.Memory _ -> _ -> testFaultPath();
      case GuestSpec.Stream _ -> _ -> StreamPathSelfTest.run();
      case GuestSpec.Qemu _ -> QemuPathSelfTest::run;
      // It has no fault path.
      case GuestSpec.File _ -> _ -> {};
      case GuestSpec.HandedOver _ -> _ -> HandedOverSelfTest.run();
    };
  }

  /** In the run that makes the AOT cache every kind of guest has its turn. */
  private static void testFaultPath() throws IOException {
    FaultPathSelfTest.run();
    if (Boolean.getBoolean("postcopyd.training")) {
      HandedOverSelfTest.run();
      QemuPathSelfTest.run(() -> false);
    }
  }

  private MigrationSettings newSettings() {
    return switch (config.guest()) {
      case GuestSpec.Memory _ ->
          new MigrationSettings(HonouredCapabilities.MEMORY_GUEST, new OwnMemorySupport());
      // The userfaultfd is on the other side.
      case GuestSpec.Stream _ ->
          new MigrationSettings(HonouredCapabilities.STREAM_GUEST, () -> null);
      case GuestSpec.File _ -> new MigrationSettings(HonouredCapabilities.FILE_GUEST, () -> null);
      // The userfaultfd is the VMM's, which needs the right to it.
      case GuestSpec.HandedOver _ ->
          new MigrationSettings(HonouredCapabilities.HANDED_OVER_GUEST, () -> null);
      // QEMU judges.
      case GuestSpec.Qemu _ -> new MigrationSettings(HonouredCapabilities.all("qemu"), () -> null);
    };
  }

  /** What this host can do for memory of the daemon's own. */
  private final class OwnMemorySupport implements MigrationCapabilityRules.HostSupport {
    @Override
    public @Nullable String postcopyTrouble() {
      return selfTest.trouble().orElse(null);
    }

    @Override
    public @Nullable String writeTrackingTrouble() {
      try {
        LocalTrackedGuest.checkAvailable();
        return null;
      } catch (IOException e) {
        return e.getMessage();
      }
    }
  }

  /** What stands in a directory that the command line names. */
  static Optional<TlsCredentials> tls(Optional<Path> directory, TlsCredentials.Endpoint endpoint)
      throws IOException {
    return directory.isEmpty()
        ? Optional.empty()
        : Optional.of(TlsCredentials.load(directory.get(), endpoint, true));
  }

  private GuestLoads newLoads(Loader loader, PostcopyMetrics metrics) throws IOException {
    return switch (config.guest()) {
      case GuestSpec.Memory memory ->
          new MemoryLoads(
              new IncomingContext(
                  loader,
                  metrics,
                  memory.layout(),
                  config.handlers(),
                  selfTest::await,
                  config.eagerThreads(),
                  config.workingSet()),
              tls(memory.tls(), TlsCredentials.Endpoint.SERVER));
      case GuestSpec.Stream stream ->
          new StreamLoads(
              stream.address(),
              stream.options(),
              tls(stream.options().tls(), TlsCredentials.Endpoint.CLIENT),
              loader,
              metrics,
              config.handlers(),
              selfTest::await,
              () -> settings.view().parameters().maxPostcopyBandwidth(),
              config.workingSet(),
              loadTrace());
      case GuestSpec.File file ->
          new SinkLoads(
              file.path(),
              file.settings(),
              file.recoversByItself(),
              tls(file.tls(), TlsCredentials.Endpoint.SERVER),
              loader);
      case GuestSpec.HandedOver _ -> GuestLoads.none("uffd");
      case GuestSpec.Qemu qemu ->
          new QemuLoads(
              Objects.requireNonNull(monitor),
              Objects.requireNonNull(readiness),
              qemu.options(),
              loader,
              metrics,
              config.handlers(),
              this::warmUp,
              () -> settings.view().parameters().maxPostcopyBandwidth(),
              config.workingSet(),
              loadTrace());
    };
  }

  private LoadTrace loadTrace() {
    return trace.<LoadTrace>map(file -> file).orElse(LoadTrace.NONE);
  }

  /**
   * Beside the first unix socket, for only that is known to be the daemon's own. Without one
   * (restore) beside the monitor, if that is possible: the same command must not go on with another
   * file.
   */
  private static Optional<PausedLoadFile> trace(DaemonConfig config, IntSupplier guestPid) {
    return config.qmp().stream()
        .filter(SocketSpec.Unix.class::isInstance)
        .map(spec -> Path.of(((SocketSpec.Unix) spec).path() + ".load"))
        .findFirst()
        .or(() -> besideMonitor(config.guest()))
        .map(path -> new PausedLoadFile(path, config.guest().toString(), guestPid));
  }

  /** QEMU's process, 0 if it is not known. */
  private int guestPid() {
    QemuMonitor of = monitor;
    return of == null ? 0 : of.session().map(session -> session.peer().pid()).orElse(0);
  }

  private static Optional<Path> besideMonitor(GuestSpec guest) {
    if (!(guest instanceof GuestSpec.Qemu qemu)) {
      return Optional.empty();
    }
    Path path = Path.of(qemu.monitor().toAbsolutePath() + ".load");
    Path directory = path.getParent();
    return directory != null && Files.isWritable(directory) ? Optional.of(path) : Optional.empty();
  }

  /** The session with QEMU's monitor, if the guest is a QEMU. */
  @Nullable QemuMonitor monitor() {
    return monitor;
  }

  /** What is done at that QEMU before a load is commanded, if the guest is a QEMU. */
  @Nullable QemuReadiness readiness() {
    return readiness;
  }

  SelfTestResult selfTest() {
    return selfTest;
  }

  /**
   * Returns when a load may be measured. One that is held is not yet; whoever lets it go ahead
   * waits for the rehearsals' end, which comes soon: the processors are QEMU's and its starter's
   * now.
   */
  void warmUp() {
    if (config.guest() instanceof GuestSpec.Qemu qemu && qemu.options().isHeld()) {
      selfTest.hurry();
    } else {
      selfTest.await();
    }
  }

  /** The migration settings of the daemon's clients. */
  MigrationSettings settings() {
    return settings;
  }

  GuestLoads loads() {
    return loads;
  }

  /** Where a load is noted down that another daemon could go on with. */
  Optional<PausedLoadFile> trace() {
    return trace;
  }

  /**
   * Whether a load would be accepted now. A QEMU that is not there yet is waited for; it may even
   * be started only when this says yes. And a load through it does not wait for the rehearsals'
   * end.
   */
  Readiness readinessForLoads() {
    Optional<String> trouble = selfTest.whyNotReady();
    if (monitor == null) {
      return trouble.map(Readiness::notReady).orElseGet(Readiness::ready);
    }
    if (selfTest.hasFailed()) {
      return Readiness.notReady(trouble.orElse("the self-test has failed"));
    }
    if (monitor.session().isPresent()) {
      return Readiness.ready();
    }
    return monitor.isThereOrAwaited()
        ? Readiness.readyBut(monitor.trouble())
        : Readiness.notReady(monitor.trouble());
  }

  @Override
  public void close() {
    if (monitor != null) {
      monitor.close();
    }
  }
}
