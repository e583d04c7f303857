package dev.postcopyd.control;

import dev.postcopyd.fds.FdSets;
import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.loader.LoadTimes;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.loader.LoaderState;
import dev.postcopyd.loader.Transition;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.outgoing.PlainSave;
import dev.postcopyd.outgoing.Save;
import dev.postcopyd.outgoing.SaveState;
import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.outgoing.background.BackgroundSave;
import dev.postcopyd.outgoing.background.Incremental;
import dev.postcopyd.outgoing.background.LocalTrackedGuest;
import dev.postcopyd.outgoing.background.SnapshotOptions;
import dev.postcopyd.outgoing.background.WriteTracking;
import dev.postcopyd.posix.FileOpener;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrationStatus;
import dev.postcopyd.qmp.schema.RunState;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.time.Duration;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.CompletionException;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Loads of a guest, and saves if it is the daemon's own memory, as QMP commands see them: at most
 * one of the two at a time, and query-migrate tells of the one that was begun last.
 *
 * <p>Commands come from the one in-band dispatcher (and query-migrate and cancel from anywhere);
 * the loader and the save report on threads of their own. Owns the save; the loader is the
 * daemon's.
 */
public final class LocalMigrations implements Loader.StateListener, Save.Listener {
  private static final Logger log = LoggerFactory.getLogger(LocalMigrations.class);
  private static final Duration CLOSE = Duration.ofSeconds(4);
  private static final String IN_PROGRESS = "There's a migration process in progress";

  private final GuestLoads loads;
  private final Loader loader;
  private final PostcopyMetrics metrics;
  private final GuestEvents events;
  private final GuestRunState runState;
  private final Runnable fatalError;
  private final LoadTimes times = new LoadTimes();
  private volatile @Nullable SnapshotLoad load;
  private volatile @Nullable Save save;
  private volatile boolean exitOnError;
  private volatile boolean savesRunningGuest;
  private volatile SnapshotOptions snapshots = SnapshotOptions.DEFAULT;
  private volatile @Nullable TrackedMemory tracked;
  private boolean over;
  private final AutomaticRecovery automatic;

  /** A load that an earlier daemon has begun, until it goes on. */
  private volatile @Nullable SnapshotLoad adopted;

  /**
   * Loads and saves that tell the clients of an event sink.
   *
   * @param settings whether the capability {@code events} is on
   * @param fatalError called when a load has failed that was to end the daemon with it
   */
  public static LocalMigrations reportingTo(
      EventSink sink,
      MigrationSettings settings,
      GuestLoads loads,
      Loader loader,
      PostcopyMetrics metrics,
      Runnable fatalError) {
    return new LocalMigrations(
        loads, loader, metrics, new QmpGuestEvents(sink, settings), fatalError);
  }

  /**
   * These migrations as what the commands command.
   *
   * @param tls the credentials that clients can name
   * @param opener opens what clients name by its path
   * @param exitOnError what an absent exit-on-error means
   */
  public MigrationControl control(
      FdSets fdSets, TlsObjects tls, FileOpener opener, boolean exitOnError) {
    return new LocalMigrationControl(this, fdSets, tls, opener, exitOnError);
  }

  /**
   * Makes it a listener of the loader.
   *
   * @param fatalError called when a load has failed that was to end the daemon with it
   */
  LocalMigrations(
      GuestLoads loads,
      Loader loader,
      PostcopyMetrics metrics,
      GuestEvents events,
      Runnable fatalError) {
    this.loads = loads;
    this.loader = loader;
    this.metrics = metrics;
    this.events = events;
    // Somebody else's guest has a monitor of its own to say RESUME.
    this.runState = new GuestRunState(loads.isOurs() ? events : GuestEvents.NONE);
    this.fatalError = fatalError;
    this.automatic = new AutomaticRecovery(loader);
    loader.addListener(times);
    loader.addListener(this);
  }

  /** How background snapshots are made. */
  public void setSnapshots(SnapshotOptions options) {
    snapshots = options;
  }

  GuestRunState runState() {
    return runState;
  }

  /** The latest load, whatever has become of it. */
  public Optional<SnapshotLoad> load() {
    return Optional.ofNullable(load);
  }

  /**
   * Begins a load and waits until its file is open. The location belongs to the load, or is closed.
   *
   * @throws QmpException if a migration is under way, or the file can't be opened
   */
  void startLoad(GuestLoads.Order order, boolean exitsOnError) throws QmpException {
    startLoad(() -> loads.create(order), order.location()::discard, exitsOnError);
  }

  /** The same for what a source sends; the address belongs to the load, or is closed. */
  void startReception(GuestLoads.Reception reception, boolean exitsOnError) throws QmpException {
    startLoad(() -> loads.receive(reception), reception.address()::discard, exitsOnError);
  }

  /** Makes a load of one kind. */
  @FunctionalInterface
  private interface NewLoad {
    SnapshotLoad create() throws QmpException;
  }

  private void startLoad(NewLoad created, Runnable discard, boolean exitsOnError)
      throws QmpException {
    SnapshotLoad next;
    giveUpAdopted();
    try {
      if (isUnderWay()) {
        throw new QmpException(
            isSaving() ? IN_PROGRESS : "The incoming migration has already been started");
      }
      endTracking();
      next = created.create();
    } catch (QmpException e) {
      discard.run();
      throw e;
    }
    SnapshotLoad previous = load;
    boolean previousExits = exitOnError;
    // Before the request, because the listener looks at both as soon as the state changes.
    load = next;
    exitOnError = exitsOnError;
    if (loader.submit(new LoaderEvent.LoadRequested(next)).join()
        instanceof Transition.Refused refused) {
      load = previous;
      exitOnError = previousExits;
      next.release();
      throw new QmpException(refused.reason());
    }
    save = null;
    try {
      Void _ = next.opened().join();
    } catch (CompletionException e) {
      throw new QmpException(
          String.valueOf(e.getCause() == null ? e.getMessage() : e.getCause().getMessage()));
    }
  }

  /**
   * Begins a save of what the last load brought in.
   *
   * @param background whether the guest goes on meanwhile, and what is saved is what it has now
   * @throws QmpException with QEMU's words where QEMU refuses too
   */
  synchronized void startSave(SaveTarget target, boolean background) throws QmpException {
    try {
      if (over) {
        throw new QmpException("the daemon is shutting down");
      }
      Save next = newSave(target, background);
      savesRunningGuest = background;
      if (!background) {
        runState.saveStarted();
      }
      save = next;
      events.migration(MigrationStatus.SETUP);
      next.start();
    } catch (QmpException e) {
      target.discard();
      throw e;
    }
  }

  private Save newSave(SaveTarget target, boolean background) throws QmpException {
    if (background && isLoading()) {
      throw new QmpException(
          "a background snapshot can be made only when all of the guest's memory is there: wait"
              + " for the load's status 'completed'");
    }
    if (isUnderWay()) {
      throw new QmpException(IN_PROGRESS);
    }
    if (!loads.isOurs()) {
      throw new QmpException(
          "the memory of the guest '"
              + loads.guestName()
              + "' is not postcopyd's to save: migrate it from its own monitor");
    }
    RunState now = runState.state();
    if (now == RunState.INMIGRATE) {
      throw new QmpException("Guest is waiting for an incoming migration");
    }
    if (now == RunState.POSTMIGRATE) {
      throw new QmpException("Can't migrate the vm that was paused due to previous migration");
    }
    SnapshotLoad loaded = load;
    if (loaded == null || loaded.guest().isEmpty()) {
      throw new QmpException("Guest is waiting for an incoming migration");
    }
    MachineState machineState =
        loaded
            .machineState()
            .orElseThrow(() ->
                new QmpException(
                    "the guest was loaded from a raw memory file and has no device state: no"
                        + " snapshot can be made of it"));
    if (!background) {
      return new PlainSave(loaded.guest().get(), machineState, target, this);
    }
    LocalTrackedGuest memory = tracked(loaded.guest().get(), machineState);
    try {
      memory.checkCompatible();
    } catch (IOException e) {
      throw new QmpException(String.valueOf(e.getMessage()));
    }
    return new BackgroundSave(memory, target, snapshots.bufferBytes(), metrics, this);
  }

  /** Memory whose writes are tracked between snapshots of it. */
  private record TrackedMemory(
      LocalGuest guest, WriteTracking tracking, LocalTrackedGuest savedAs) {}

  /** Identity on purpose: what was tracked is this very memory. */
  @SuppressWarnings("ReferenceEquality")
  private LocalTrackedGuest tracked(LocalGuest guest, MachineState machineState) {
    if (snapshots.incremental() == Incremental.OFF) {
      return new LocalTrackedGuest(guest, machineState, Optional.empty());
    }
    TrackedMemory of = tracked;
    if (of == null || of.guest != guest) {
      endTracking();
      WriteTracking tracking = new WriteTracking(snapshots.incremental());
      of =
          new TrackedMemory(
              guest, tracking, new LocalTrackedGuest(guest, machineState, Optional.of(tracking)));
      tracked = of;
    }
    return of.savedAs;
  }

  /** The memory is going to be somebody else's. */
  private void endTracking() {
    TrackedMemory of = tracked;
    tracked = null;
    if (of != null) {
      of.tracking.end("the guest was loaded anew");
    }
  }

  /**
   * Cancels what is under way; nothing under way is no error, as in QEMU.
   *
   * @throws QmpException if it has gone too far
   */
  void cancel() throws QmpException {
    Save saving = save;
    if (saving != null && isSaving()) {
      saving.cancel();
    } else if (loader.submit(new LoaderEvent.CancelRequested()).join()
        instanceof Transition.Refused refused) {
      throw new QmpException(refused.reason());
    }
  }

  /** Cuts the connection of a load that can be recovered. */
  void pause() throws QmpException {
    SnapshotLoad loading = load;
    boolean cut =
        switch (loader.state()) {
          case LoaderState.PostcopyActive _, LoaderState.PostcopyRecover _ ->
              loading != null && loading.cutConnection();
          case LoaderState.Live _, LoaderState.Idle _ -> false;
        };
    automatic.end();
    if (!cut) {
      throw new QmpException(
          "migrate-pause is currently only supported during postcopy-active or postcopy-recover"
              + " state");
    }
  }

  /**
   * Makes a paused load go on; returns before it does.
   *
   * @param tls with what a source is to encrypt, if the client has said so
   */
  void recover(String uri, NamedDescriptors descriptors, Optional<TlsCredentials> tls)
      throws QmpException {
    if (!(loader.state() instanceof LoaderState.PostcopyPaused)) {
      throw new QmpException("Migrate recover can only be run when postcopy is paused.");
    }
    String address = loads.recoveryAddress(uri, descriptors);
    SnapshotLoad paused = load;
    if (paused != null && !uri.isEmpty()) {
      try {
        paused.expectRecovery(address, tls);
      } catch (IOException e) {
        loads.discardRecoveryAddress(address);
        throw new QmpException(String.valueOf(e.getMessage()));
      }
    }
    var _ =
        loader
            .submit(new LoaderEvent.RecoverRequested(address))
            .thenAccept(transition -> {
              if (transition instanceof Transition.Refused) {
                loads.discardRecoveryAddress(address);
              }
            });
  }

  /** Makes a paused load go on where it waited before; returns before it does. */
  public void recoverWhereItWas() {
    var _ = loader.submit(new LoaderEvent.RecoverRequested(""));
  }

  /** A load that an earlier daemon has begun: it waits for migrate-recover. */
  public void adopt(SnapshotLoad paused, String reason) {
    load = paused;
    adopted = paused;
    Transition _ = loader.submit(new LoaderEvent.PausedLoadFound(paused, reason)).join();
  }

  /** Goes on with a load that an earlier daemon has begun; returns before it does. */
  void resumeLoad(GuestLoads.Order order) throws QmpException {
    SnapshotLoad paused;
    try {
      if (isUnderWay()) {
        throw new QmpException("The incoming migration has already been started");
      }
      paused = loads.goOn(order);
    } catch (QmpException e) {
      order.location().discard();
      throw e;
    }
    adopt(paused, "an earlier postcopyd has ended before the load was complete");
    automatic.begin(paused);
  }

  /** Identity on purpose: two loads of the same snapshot are two loads. */
  @SuppressWarnings("ReferenceEquality")
  private static boolean isPaused(LoaderState state, SnapshotLoad load) {
    return state instanceof LoaderState.PostcopyPaused paused && paused.load() == load;
  }

  /**
   * What an earlier daemon has left behind may be of a guest that is gone; a client knows better.
   */
  private void giveUpAdopted() {
    SnapshotLoad left = adopted;
    if (left != null && isPaused(loader.state(), left)) {
      automatic.end();
      Transition _ =
          loader
              .submit(
                  new LoaderEvent.LoadFailed(
                      left, "the guest that an earlier daemon has left was given up for another"))
              .join();
    }
  }

  /** The guest is gone, and whatever is being loaded with it. */
  public void guestEnded(String reason) {
    if (loader.state() instanceof LoaderState.Live live) {
      loader.report(new LoaderEvent.LoadFailed(live.load(), reason));
    }
  }

  GuestLoads loads() {
    return loads;
  }

  boolean isUnderWay() {
    return isSaving() || isLoading();
  }

  boolean isLoading() {
    return loader.state() instanceof LoaderState.Live;
  }

  private boolean isSaving() {
    Save saving = save;
    return saving != null && saving.isLive();
  }

  @Override
  public void stateChanged(LoaderState before, LoaderState after) {
    if (after instanceof LoaderState.Setup) {
      runState.loadStarted();
    }
    automatic.stateChanged(after);
    if (after instanceof LoaderState.PostcopyActive) {
      // It has been recovered, or is another one: no longer something to be given up.
      adopted = null;
    }
    events.migration(MigrationViews.status(after));
    if (after instanceof LoaderState.Cancelling cancelling
        && cancelling.load() instanceof SnapshotLoad cancelled) {
      cancelled.giveUpOpening();
    }
    if (after instanceof LoaderState.PostcopyActive
        || (after instanceof LoaderState.Completed && before instanceof LoaderState.Active)) {
      SnapshotLoad loaded = load;
      if (loads.isOurs()) {
        runState.loaded(loaded == null || loaded.savedRunning());
      } else {
        runState.handedOver();
      }
    }
    if (after instanceof LoaderState.Ended) {
      metrics.migrationEnded("incoming", after.status().name().toLowerCase(Locale.ROOT));
    }
    if (after instanceof LoaderState.Failed && exitOnError) {
      fatalError.run();
    }
  }

  @Override
  public void stateChanged(SaveState state) {
    events.migration(MigrationViews.status(state));
    if (state instanceof SaveState.Ended) {
      if (!savesRunningGuest) {
        runState.saveEnded(state instanceof SaveState.Completed);
      }
      metrics.migrationEnded(
          "outgoing", MigrationViews.status(state).name().toLowerCase(Locale.ROOT));
    }
  }

  /** Where the migration that was begun last stands. */
  public MigrationStatus status() {
    Save saved = save;
    return saved == null
        ? MigrationViews.status(loader.state())
        : MigrationViews.status(saved.state());
  }

  /** Why the latest load has failed, or is paused. */
  public Optional<String> errorDesc() {
    return MigrationViews.errorDesc(loader.state());
  }

  /** One look at the migration that was begun last. */
  MigrationView view() {
    Save saved = save;
    return saved == null
        ? MigrationViews.of(loader.state(), load, times)
        : MigrationViews.of(saved);
  }

  /**
   * Cancels a save and waits a while for its end; none begins from now on. The loader is closed by
   * its owner.
   */
  public void close() {
    synchronized (this) {
      over = true;
    }
    Save saving = save;
    if (saving != null) {
      saving.cancel();
      try {
        if (!saving.awaitEnd(CLOSE)) {
          log.warn("gave up waiting for the end of a save seconds={}", CLOSE.toSeconds());
          return;
        }
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }
    endTracking();
  }
}
