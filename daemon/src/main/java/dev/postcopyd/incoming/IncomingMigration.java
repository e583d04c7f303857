package dev.postcopyd.incoming;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.EagerLoader;
import dev.postcopyd.postcopy.EngineListener;
import dev.postcopyd.postcopy.FaultOrder;
import dev.postcopyd.postcopy.FaultThread;
import dev.postcopyd.postcopy.PagePlacer;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.memory.MemoryPagePlacer;
import dev.postcopyd.postcopy.uffd.UffdFaultSource;
import dev.postcopyd.postcopy.uffd.UffdPagePlacer;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.uffd.Userfaultfd;
import dev.postcopyd.workingset.WorkingSet;
import dev.postcopyd.workingset.WorkingSetSession;
import java.io.IOException;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One load of a snapshot into the daemon's own memory: opens the snapshot, maps the memory, puts
 * handler, engine and placer together, and reports to the {@link Loader} how each step went.
 *
 * <p>The steps run on the loader's worker thread, one at a time. What other threads look at
 * (engine, guest, machine state) is published by volatile fields when it is whole. Owns everything
 * it opens; {@link #detachGuest} gives the snapshot back, {@link #release} everything.
 */
public final class IncomingMigration implements SnapshotLoad, EngineListener {
  private static final Logger log = LoggerFactory.getLogger(IncomingMigration.class);

  private final Mode mode;
  private final String source;
  private final SnapshotLocation location;
  private final IncomingContext context;
  private final Opening opening = new Opening();

  private @Nullable Snapshot snapshot;
  private @Nullable PostcopyPageHandler handler;
  private @Nullable FaultThread faultThread;
  private @Nullable UffdFaultSource faultSource;
  private @Nullable UffdPagePlacer placer;
  private @Nullable EagerLoader eagerLoader;
  private WorkingSetSession workingSet = WorkingSetSession.none();
  private FaultOrder faultOrder = FaultOrder.off();
  private volatile @Nullable PostcopyEngine engine;
  private volatile @Nullable LocalGuest guest;
  private volatile @Nullable MachineState machineState;
  private volatile boolean savedRunning = true;
  private volatile boolean released;

  /**
   * @param source the migration URI, as messages name it
   */
  public IncomingMigration(
      Mode mode, String source, SnapshotLocation location, IncomingContext context) {
    this.mode = mode;
    this.source = source;
    this.location = location;
    this.context = context;
  }

  @Override
  public String source() {
    return source;
  }

  @Override
  public Mode mode() {
    return mode;
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

  @Override
  public Optional<LocalGuest> guest() {
    return Optional.ofNullable(guest);
  }

  @Override
  public Optional<MachineState> machineState() {
    return Optional.ofNullable(machineState);
  }

  @Override
  public boolean savedRunning() {
    return savedRunning;
  }

  @Override
  public void prepare() {
    NativeFile file;
    try {
      file = location.open();
    } catch (IOException e) {
      opening.failed(this, context.loader(), e);
      return;
    }
    opening.done();
    try {
      prepare(file);
    } catch (IOException e) {
      loadFailed(SnapshotOpening.message(e));
    } catch (OutOfMemoryError e) {
      loadFailed(SnapshotOpening.heapTooSmall(source));
    }
  }

  private void prepare(NativeFile file) throws IOException {
    Snapshot checked = SnapshotOpening.open(file, location.offsetBytes());
    snapshot = checked;
    if (location.readsPagesDirectly()) {
      checked.file().setDirectIo(true);
    }
    machineState = checked.machineState().orElse(null);
    savedRunning =
        checked
            .machineState()
            .flatMap(SnapshotOpening::savedRunState)
            .map("running"::equals)
            .orElse(true);
    RamBlockTable table = context.layout().layOut(checked);
    RoomForPages.require(checked, table);
    LocalGuest memory = LocalGuest.allocate(table);
    guest = memory;
    PostcopyPageHandler pages = context.handlers().create(checked, table);
    handler = pages;
    switch (mode) {
      case LAZY -> {
        workingSet = WorkingSetSession.open(context.workingSet(), location.path(), checked);
        if (workingSet.isRecording()) {
          faultOrder = FaultOrder.of(table, WorkingSet.limitBytes(table.totalBytes()));
        }
        armForFaults(memory, pages);
      }
      case PLAIN -> {
        engine = newEngine(table, pages, new MemoryPagePlacer(memory.baseAddresses()));
        context.loader().report(new LoaderEvent.RamReady(this));
      }
    }
  }

  private void armForFaults(LocalGuest memory, PostcopyPageHandler pages) throws IOException {
    context.warmUp().run();
    Userfaultfd uffd = Userfaultfd.open(UffdFaultSource.OWN_MEMORY_OPTIONS);
    memory.arm(uffd);
    UffdFaultSource faults = new UffdFaultSource(uffd, memory.table(), memory.baseAddresses());
    faultSource = faults;
    UffdPagePlacer uffdPlacer =
        new UffdPagePlacer(uffd, memory.table(), memory.baseAddresses(), faults);
    placer = uffdPlacer;
    PostcopyEngine faultEngine = newEngine(memory.table(), pages, uffdPlacer);
    engine = faultEngine;
    FaultThread thread = new FaultThread(faults, faultEngine, "faults");
    faultThread = thread;
    thread.start();
    context.loader().report(new LoaderEvent.RamArmed(this));
  }

  private PostcopyEngine newEngine(
      RamBlockTable table, PostcopyPageHandler pages, PagePlacer into) {
    return new PostcopyEngine(table, pages, into, this, context.metrics(), faultOrder);
  }

  /** The daemon's own memory has no devices: their state is kept for the next save. */
  @Override
  public void handOverDeviceState() {
    context.loader().report(new LoaderEvent.DeviceStateLoaded(this));
  }

  @Override
  public void startEagerLoader() {
    PostcopyEngine ready = engine;
    if (ready == null) {
      throw new IllegalStateException("no engine to load with");
    }
    EagerLoader loader =
        new EagerLoader(
            ready,
            context.eagerThreads(),
            EagerLoader.RUN_BYTES,
            "eager",
            workingSet.prefetchOrder(ready.table()));
    eagerLoader = loader;
    loader.start();
  }

  @Override
  public void allPagesReceived() {
    context.loader().report(new LoaderEvent.AllPagesReceived(this));
  }

  @Override
  public void loadFailed(String reason) {
    context.loader().report(new LoaderEvent.LoadFailed(this, reason));
  }

  @Override
  public void detachGuest() {
    try {
      stopThreads();
      LocalGuest memory = guest;
      if (memory != null) {
        memory.disarm();
      }
      closeSource();
    } catch (IOException e) {
      loadFailed("the guest's memory can't be let go: " + SnapshotOpening.message(e));
      return;
    }
    context.loader().report(new LoaderEvent.GuestDetached(this));
    // Afterwards: nobody who waits for the guest is to wait for a disk.
    saveWorkingSet(true);
  }

  @Override
  public void release() {
    stopThreads();
    saveWorkingSet(false);
    LocalGuest memory = guest;
    guest = null;
    if (memory != null) {
      memory.close();
    }
    closeSource();
    released = true;
    log.debug("released source={}", source);
  }

  /** Once, after the fault thread has ended; a load that failed under its guest has seen some. */
  private void saveWorkingSet(boolean complete) {
    WorkingSetSession session = workingSet;
    workingSet = WorkingSetSession.none();
    PostcopyEngine ended = engine;
    if (ended != null) {
      session
          .save(ended.table(), faultOrder.pageIndices(), complete)
          .ifPresent(
              saved -> context.metrics().workingSetWritten(saved.pages(), saved.sizeBytes()));
    }
  }

  private void stopThreads() {
    EagerLoader loader = eagerLoader;
    eagerLoader = null;
    if (loader != null) {
      loader.close();
    }
    FaultThread thread = faultThread;
    faultThread = null;
    if (thread != null) {
      thread.close();
    }
    UffdFaultSource faults = faultSource;
    faultSource = null;
    if (faults != null) {
      faults.close();
    }
    UffdPagePlacer uffdPlacer = placer;
    placer = null;
    if (uffdPlacer != null) {
      uffdPlacer.close();
    }
  }

  private void closeSource() {
    PostcopyPageHandler pages = handler;
    handler = null;
    if (pages != null) {
      pages.close();
    }
    Snapshot open = snapshot;
    snapshot = null;
    if (open != null) {
      open.close();
    }
  }
}
