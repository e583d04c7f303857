package dev.postcopyd.incoming;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.guest.PostcopyDestination;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.stream.ReturnPathMessage;
import java.io.IOException;
import java.time.Duration;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One load of a snapshot into a QEMU that takes it for a postcopy migration: this side plays the
 * migration's source.
 *
 * <pre>
 * prepare              snapshot checked, destination connected; handshake, PONG 1, [second
 *                      channel], discards; requests are being read           → RamArmed
 * handOverDeviceState  the package with devices and RUN; PONG 3              → DeviceStateLoaded
 * startEagerLoader     the bulk                                              → AllPagesReceived
 * detachGuest          end of the stream; SHUT                               → GuestDetached
 * pause, recover       the connection is lost after RUN; a new one goes on with what is missing
 * </pre>
 *
 * <p>The steps run on the loader's worker thread, one at a time; {@link #interrupt} and {@link
 * #cutConnection} may be called from any thread. Owns everything it opens, and the destination.
 */
public final class StreamMigration implements SnapshotLoad, StreamSession.Owner {
  private static final Logger log = LoggerFactory.getLogger(StreamMigration.class);
  private static final Duration ANSWER_PATIENCE = Duration.ofSeconds(30);
  private static final Duration DEVICE_PATIENCE = Duration.ofMinutes(2);
  private static final Duration END_PATIENCE = Duration.ofDays(1);

  private final String source;
  private final SnapshotLocation location;
  private final StreamContext context;
  private final Loader loader;
  private final PostcopyDestination destination;
  private final Opening opening = new Opening();

  private final StreamedSnapshot snapshot;
  private long[] prefetchOrder = new long[0];
  private byte[] switchover = new byte[0];
  private boolean traceLeft;
  private volatile @Nullable StreamSession session;
  private volatile @Nullable PostcopyEngine engine;
  private volatile Duration devicePatience = DEVICE_PATIENCE;

  /** Whether the guest runs; locked while what becomes of the load is decided by it. */
  private final AtomicBoolean running = new AtomicBoolean();

  /** How the session has ended after the devices were loaded and before that was reported. */
  private @Nullable Runnable endedBeforeRunning;

  private volatile boolean interrupted;
  private volatile boolean released;
  private final LoadStages stages = new LoadStages();

  /**
   * @param source the migration URI of the snapshot, as messages name it
   */
  public StreamMigration(String source, SnapshotLocation location, StreamContext context) {
    this(source, location, context, Optional.empty());
  }

  private StreamMigration(
      String source,
      SnapshotLocation location,
      StreamContext context,
      Optional<LoadTrace.Trace> begun) {
    this.source = source;
    this.location = location;
    this.context = context;
    this.loader = context.loader();
    this.destination = context.destination();
    this.snapshot = new StreamedSnapshot(location, context, begun);
  }

  /**
   * A load that an earlier daemon has begun; it can only be recovered.
   *
   * @param begun what that daemon has left behind, if anything: the file has to be the same
   */
  public static StreamMigration begunBefore(
      String source,
      SnapshotLocation location,
      StreamContext context,
      Optional<LoadTrace.Trace> begun) {
    return new StreamMigration(source, location, context, begun);
  }

  @Override
  public String source() {
    return source;
  }

  @Override
  public Mode mode() {
    return Mode.LAZY;
  }

  @Override
  public boolean canBeAbandoned() {
    return false;
  }

  @Override
  public CompletableFuture<@Nullable Void> opened() {
    return opening.end();
  }

  @Override
  public void giveUpOpening() {
    opening.giveUp("the load was cancelled before " + source + " was open");
  }

  @Override
  public Optional<PostcopyEngine> engine() {
    return Optional.ofNullable(engine);
  }

  @Override
  public boolean isReleased() {
    return released;
  }

  /** The memory is QEMU's. */
  @Override
  public Optional<LocalGuest> guest() {
    return Optional.empty();
  }

  @Override
  public Optional<MachineState> machineState() {
    return snapshot.machineState();
  }

  @Override
  public boolean savedRunning() {
    return snapshot.savedRunning();
  }

  @Override
  public void prepare() {
    NativeFile file;
    try {
      file = location.open();
    } catch (IOException e) {
      opening.failed(this, loader, e);
      return;
    }
    opening.done();
    try {
      destination.begin();
      snapshot.check(file);
      stages.done("snapshot");
      context.warmUp().run();
      connectAndHandshake();
      loader.report(new LoaderEvent.RamArmed(this));
    } catch (IOException e) {
      setupFailed(e);
    } catch (OutOfMemoryError e) {
      setupFailed(new IOException(SnapshotOpening.heapTooSmall(source), e));
    }
  }

  private void connectAndHandshake() throws IOException {
    StreamedMachine sent = snapshot.onTermsOf(destination);
    stages.done("terms");
    // While the destination gets ready to listen.
    byte[] handshake = sent.handshake();
    switchover = sent.words().switchover();
    prefetchOrder = sent.wantedFirst(location, context);
    Optional<String> savedRunState = snapshot.savedRunState();
    leaveTrace(sent);
    stages.done("words");
    if (destination.awaitGoAhead()) {
      stages.wasAhead();
    }
    destination.awaitReady(savedRunState);
    stages.done("ready");
    StreamSession connected = connect(sent);
    connected.main().send(handshake);
    stages.done("connect");
    awaitFirstPong(connected);
    stages.done("pong");
    if (sent.terms().preempt()) {
      connected.openPreemptChannel(destination.connect());
    }
    connected.main().send(sent.words().discards());
    stages.done("discard");
  }

  private void leaveTrace(StreamedMachine sent) throws IOException {
    traceLeft = true;
    context
        .trace()
        .leave(new LoadTrace.Trace(source, sent.terms(), sent.snapshot().file().identity()));
  }

  private StreamSession connect(StreamedMachine sent) throws IOException {
    StreamSession connected =
        StreamSession.open(
            destination.connect(),
            destination.name(),
            sent.terms().preempt(),
            sent.table(),
            sent.handler(),
            context.metrics(),
            sent.faultOrder(),
            context.bytesPerSecond(),
            this);
    session = connected;
    engine = connected.engine();
    connected.start();
    if (interrupted) {
      connected.cut("the load is being given up");
    }
    return connected;
  }

  private static void awaitFirstPong(StreamSession connected) throws IOException {
    if (!connected.inbox().awaitPong(MigrationPreamble.PING_CONNECTED, ANSWER_PATIENCE)) {
      throw new IOException(
          connected.main().socket().name()
              + " has taken the connection but does not answer; if it has the capability"
              + " postcopy-preempt, the source must have it too, and neither may have multifd");
    }
  }

  /** Before RUN nothing can be saved: the reason is told together with what to do. */
  private void setupFailed(IOException e) {
    String reason = SnapshotOpening.message(e);
    if (traceLeft) {
      traceLeft = false;
      context.trace().remove();
    }
    if (session != null) {
      reason =
          "the destination "
              + destination.name()
              + " has not taken the guest: "
              + reason
              + destination.explanation().map(said -> "; " + said).orElse("; its own log says why")
              + ". Its QEMU ends after that, or has to be started anew";
    }
    loader.report(new LoaderEvent.LoadFailed(this, reason));
  }

  @Override
  public void handOverDeviceState() {
    StreamSession current = Objects.requireNonNull(session);
    try {
      // Not only for the PONG: a destination that takes nothing would hold up the sending for ever.
      CompletableFuture<Void> deadline =
          CompletableFuture.runAsync(
              () -> current.cut(notLoadedInTime()),
              CompletableFuture.delayedExecutor(devicePatience.toMillis(), TimeUnit.MILLISECONDS));
      try {
        destination.dependsOnUs();
        current.main().send(switchover);
        switchover = new byte[0];
        current.startPrefetch(prefetchOrder);
        if (!current.inbox().awaitPong(MigrationPreamble.PING_DEVICES_LOADED, devicePatience)) {
          throw new IOException(notLoadedInTime());
        }
      } finally {
        boolean _ = deadline.cancel(false);
      }
    } catch (IOException e) {
      setupFailed(current.lostBecause().<IOException>map(IOException::new).orElse(e));
      return;
    }
    stages.done("devices");
    log.info("resumed source={} {}", source, stages);
    destination.deviceStateLoaded();
    Runnable ended;
    synchronized (running) {
      loader.report(new LoaderEvent.DeviceStateLoaded(this));
      running.set(true);
      ended = endedBeforeRunning;
      endedBeforeRunning = null;
    }
    if (ended != null) {
      ended.run();
    }
  }

  private String notLoadedInTime() {
    return "it has not loaded its device state in "
        + devicePatience.toSeconds()
        + " s; if it has the capability postcopy-preempt, the source must have it too";
  }

  /** Makes a destination that does not load its devices fail sooner; before the load begins. */
  void devicePatience(Duration patience) {
    devicePatience = patience;
  }

  @Override
  public void startEagerLoader() {
    StreamSession current = session;
    if (current != null) {
      current.startEagerLoader(context.eager());
    }
  }

  @Override
  public void detachGuest() {
    StreamSession current = session;
    if (current == null) {
      return;
    }
    try {
      current.sendEnding(snapshot.machine().words().ending());
      if (current.inbox().await(ReturnPathMessage.Shut.class, END_PATIENCE).isEmpty()) {
        throw new IOException("the destination does not end the migration");
      }
    } catch (IOException e) {
      current.cut(SnapshotOpening.message(e));
      return;
    }
    running.set(false);
    context.trace().remove();
    destination.completed();
    closeConnection();
    loader.report(new LoaderEvent.GuestDetached(this));
    // Afterwards: nobody who waits for the guest is to wait for a disk.
    snapshot.saveWorkingSet(true);
  }

  @Override
  public void allPagesReceived() {
    loader.report(new LoaderEvent.AllPagesReceived(this));
  }

  @Override
  public void sessionFailed(String reason) {
    if (!running.get()) {
      loader.report(new LoaderEvent.LoadFailed(this, reason));
      return;
    }
    destination.failed(reason);
    loader.report(
        new LoaderEvent.LoadFailed(
            this,
            reason
                + ". The guest waits for the rest of its memory: once the snapshot can be read"
                + " again, a fresh postcopyd goes on"));
  }

  @Override
  public void connectionLost(String reason) {
    synchronized (running) {
      if (!running.get()) {
        // Until the guest runs the step that is under way says what has happened.
        endedBeforeRunning = () -> connectionLost(reason);
        return;
      }
    }
    loader.report(new LoaderEvent.ConnectionLost(this, reason));
  }

  @Override
  public boolean cutConnection() {
    StreamSession current = session;
    if (current != null) {
      current.cut("paused by migrate-pause");
    }
    return current != null;
  }

  @Override
  public void pause() {
    closeConnection();
  }

  @Override
  public void recover(String uri) {
    running.set(true);
    try {
      if (!snapshot.isOpen()) {
        snapshot.check(location.open());
        opening.done();
      }
      StreamedMachine sent = snapshot.onTermsOf(destination);
      Optional<String> _ = snapshot.savedRunState();
      destination.prepareRecovery(uri.isEmpty() ? Optional.empty() : Optional.of(uri));
      StreamSession connected = connect(sent);
      loader.report(new LoaderEvent.Reconnected(this));
      resume(sent, connected);
    } catch (IOException e) {
      recoveryFailed(SnapshotOpening.message(e));
    } catch (OutOfMemoryError e) {
      recoveryFailed(SnapshotOpening.heapTooSmall(source));
    }
  }

  private void resume(StreamedMachine sent, StreamSession connected) throws IOException {
    connected.main().send(sent.words().ping());
    awaitFirstPong(connected);
    if (sent.terms().preempt()) {
      connected.openPreemptChannel(destination.connect());
    }
    StreamRecovery recovery = new StreamRecovery(sent, connected, ANSWER_PATIENCE);
    prefetchOrder = sent.wantedFirst(location, context);
    recovery.askForPages();
    recovery.resume();
    connected.startPrefetch(prefetchOrder);
    loader.report(new LoaderEvent.Resumed(this));
  }

  /** A session that has begun reports its own end. */
  private void recoveryFailed(String reason) {
    String whole = "recovery failed: " + reason;
    StreamSession current = session;
    if (current == null) {
      loader.report(new LoaderEvent.ConnectionLost(this, whole));
    } else {
      current.cut(whole);
      closeConnection();
    }
  }

  @Override
  public void interrupt() {
    interrupted = true;
    StreamSession current = session;
    if (current != null) {
      current.cut("the load is being given up");
    }
    destination.close();
  }

  @Override
  public void release() {
    closeConnection();
    snapshot.saveWorkingSet(false);
    destination.close();
    snapshot.close();
    location.discard();
    released = true;
    log.debug("released source={}", source);
  }

  private void closeConnection() {
    StreamSession current = session;
    session = null;
    if (current != null) {
      current.close();
    }
  }
}
