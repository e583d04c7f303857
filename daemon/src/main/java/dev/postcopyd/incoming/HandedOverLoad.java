package dev.postcopyd.incoming;

import dev.postcopyd.handover.GuestRecord;
import dev.postcopyd.loader.Load;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.postcopy.EngineListener;
import dev.postcopyd.postcopy.FaultOrder;
import dev.postcopyd.postcopy.FaultThread;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.uffd.GuestChanges;
import dev.postcopyd.postcopy.uffd.HandedOverFaultSource;
import dev.postcopyd.postcopy.uffd.HandedOverMemory;
import dev.postcopyd.postcopy.uffd.HandedOverPagePlacer;
import dev.postcopyd.postcopy.uffd.PageMarks;
import java.io.IOException;
import java.util.Objects;
import java.util.Optional;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The load of one guest that has handed its memory over: puts handler, engine, fault source and
 * placer together, goes on where an earlier daemon has stopped, and stays with the guest after the
 * load, as long as there is anybody who could wait for a page.
 *
 * <p>The steps run on the loader's worker thread. What other threads look at is published by
 * volatile fields. Uses the guest, which the registry owns, and lets go of its snapshot in {@link
 * #release}; {@link #end} ends the rest.
 *
 * <p>A load that has failed keeps its fault thread: every page that is missing then raises SIGBUS
 * where it is touched. To let go of the userfaultfd instead would mean zeros in its place.
 */
final class HandedOverLoad implements Load, EngineListener, GuestChanges {
  private static final Logger log = LoggerFactory.getLogger(HandedOverLoad.class);

  private final HandedOverGuest guest;
  private final GuestOrigin origin;
  private final HandedOverContext context;
  private final Loader loader;
  private final Family family;
  private final GuestSaver saver;

  private volatile @Nullable FaultThread faultThread;
  private volatile @Nullable HandedOverFaultSource faultSource;
  private volatile @Nullable HandedOverMemory memory;
  private volatile @Nullable HandedOverPagePlacer placer;
  private volatile @Nullable PostcopyEngine engine;
  private volatile boolean gone;
  private volatile boolean failedHere;
  private volatile boolean leaving;

  /** What a guest's events mean beyond the guest. Called on its fault thread; must return soon. */
  interface Family {
    /** The guest has ended. */
    void gone(HandedOverLoad load, String reason);

    /** The guest has forked; the descriptor is the callee's. */
    void forked(HandedOverLoad parent, HandedOverMemory memory, int descriptor);
  }

  HandedOverLoad(
      HandedOverGuest guest,
      GuestOrigin origin,
      HandedOverContext context,
      Loader loader,
      Family family) {
    this.guest = guest;
    this.origin = origin;
    this.context = context;
    this.loader = loader;
    this.family = family;
    this.saver = new GuestSaver(guest, context.incremental());
  }

  /**
   * The guest, to be saved: its load is complete.
   *
   * @throws IOException if it can't be, saying why
   */
  HandedOverSaving newSaving() throws IOException {
    HandedOverMemory handedOver = memory;
    HandedOverFaultSource faults = faultSource;
    HandedOverPagePlacer pages = placer;
    if (gone || handedOver == null || faults == null || pages == null) {
      throw new IOException("guest " + guest.id() + " has ended");
    }
    return saver.next(handedOver, faults, pages);
  }

  /** Its save fails, if one is under way; returns when it does not use the guest any more. */
  void endSaving(String reason) {
    saver.end(reason);
  }

  HandedOverGuest guest() {
    return guest;
  }

  GuestOrigin origin() {
    return origin;
  }

  /** Whether what nobody has touched is brought in, too. */
  boolean loadsAhead() {
    return context.options().eager();
  }

  /** Whether the guest's faults are served, or refused: its end is noticed then. */
  boolean isServing() {
    return faultThread != null;
  }

  Optional<PostcopyEngine> engine() {
    return Optional.ofNullable(engine);
  }

  boolean isGone() {
    return gone;
  }

  @Override
  public String source() {
    return origin.uri() + " into guest " + guest.id();
  }

  @Override
  public Mode mode() {
    return origin.mode();
  }

  /** A guest that still lives has nobody else to get its memory from. */
  @Override
  public boolean canBeAbandoned() {
    return gone;
  }

  @Override
  public void prepare() {
    try {
      context.warmUp().run();
      origin.begin(this);
    } catch (IOException e) {
      refuse(SnapshotOpening.message(e));
    } catch (OutOfMemoryError e) {
      refuse(SnapshotOpening.heapTooSmall(origin.uri()));
    }
  }

  /** The load ends before it has begun, and the guest is told so by every page that it touches. */
  private void refuse(String reason) {
    try {
      if (faultThread == null) {
        armWithoutEngine();
      }
    } catch (IOException e) {
      log.error("guest waits for ever guest={} reason=\"{}\"", guest.id(), e.getMessage());
    }
    loadFailed(reason);
  }

  private void armWithoutEngine() throws IOException {
    GuestRecord record = guest.record();
    RamBlockTable table = GuestRecord.geometry(record.identity().mappings());
    HandedOverMemory handedOver = memory;
    if (handedOver == null) {
      handedOver =
          new HandedOverMemory(
              guest.userfaultfd(),
              table,
              record.segments(table),
              record.marks(table),
              record.events(),
              record);
      memory = handedOver;
    }
    HandedOverFaultSource faults = faultSource;
    if (faults == null) {
      faults = new HandedOverFaultSource(handedOver, guest.connection(), this);
      faultSource = faults;
    }
    HandedOverPagePlacer pages = placer;
    if (pages == null) {
      pages = new HandedOverPagePlacer(handedOver, faults, guest.files());
      placer = pages;
    }
    FaultThread thread =
        FaultThread.withoutEngine(
            faults, refusing(handedOver, faults, pages), this::loadFailed, "faults-g" + guest.id());
    faultThread = thread;
    thread.start();
  }

  /**
   * Serves the guest's faults from now on. On the thread of the load's steps, or of a source that
   * this guest alone has.
   *
   * @param table the guest's memory, a block for each mapping
   * @param made is given the engine before anything is asked of it
   */
  void serve(
      RamBlockTable table,
      PostcopyPageHandler handler,
      FaultOrder faultOrder,
      Consumer<PostcopyEngine> made)
      throws IOException {
    GuestRecord record = guest.record();
    PageMarks marks = record.marks(table);
    HandedOverMemory handedOver =
        new HandedOverMemory(
            guest.userfaultfd(), table, record.segments(table), marks, record.events(), record);
    // Before the engine is made, which begins with what is known then.
    handedOver.applyLeftEvents(this);
    HandedOverFaultSource faults = new HandedOverFaultSource(handedOver, guest.connection(), this);
    faultSource = faults;
    HandedOverPagePlacer pages = new HandedOverPagePlacer(handedOver, faults, guest.files());
    memory = handedOver;
    placer = pages;
    PostcopyEngine pageEngine =
        new PostcopyEngine(table, handler, pages, this, context.metrics(), faultOrder);
    if (context.options().faultAround()) {
      pageEngine.enableFaultAround();
    }
    skipWhatIsDone(pageEngine, marks);
    made.accept(pageEngine);
    engine = pageEngine;
    if (record.isFailed() && !record.isCompleted()) {
      failedHere = true;
    }
    FaultThread thread = new FaultThread(faults, pageEngine, "faults-g" + guest.id());
    faultThread = thread;
    thread.start();
    if (failedHere) {
      loadFailed("it had failed already when an earlier postcopyd served it");
      return;
    }
    handedOver.wakeAll();
    loader.report(new LoaderEvent.RamArmed(this));
    // The VMM gives itself its device state.
    loader.report(new LoaderEvent.DeviceStateLoaded(this));
    if (pageEngine.isComplete()) {
      allPagesReceived();
    }
  }

  private static void skipWhatIsDone(PostcopyEngine engine, PageMarks marks) {
    for (RamBlock block : engine.table().blocks()) {
      long page = block.firstPageIndex();
      while (page < block.endPageIndex()) {
        int run = (int) Math.min(marks.runOfDone(page, block.endPageIndex() - page), 1 << 20);
        if (marks.isDone(page)) {
          engine.alreadyReceived(block, page, run, !marks.isRemoved(page));
        }
        page += run;
      }
    }
  }

  /** It has them, see {@link #serve}. */
  @Override
  public void handOverDeviceState() {}

  @Override
  public void startEagerLoader() {
    PostcopyEngine ready = engine;
    if (ready != null) {
      origin.startLoading(ready);
    }
  }

  /** A source has begun to send. */
  void migrationBegun() {
    loader.report(new LoaderEvent.RamReady(this));
  }

  /** Nothing will come any more. */
  void pagesExhausted() {
    PostcopyEngine of = engine;
    if (of != null && of.isComplete()) {
      allPagesReceived();
    } else if (of != null) {
      // What has come and is not in the guest yet holds up the source.
      origin.startLoading(of);
    }
  }

  void connectionLost(String reason) {
    loader.report(new LoaderEvent.ConnectionLost(this, reason));
  }

  void reconnected() {
    loader.report(new LoaderEvent.Reconnected(this));
  }

  void resumed() {
    loader.report(new LoaderEvent.Resumed(this));
  }

  @Override
  public void allPagesReceived() {
    if (origin.isExhausted()) {
      guest.record().setCompleted();
      loader.report(new LoaderEvent.AllPagesReceived(this));
    }
  }

  @Override
  public void pause() {
    origin.pause();
  }

  @Override
  public void recover(String uri) {
    origin.recover();
  }

  @Override
  public void interrupt() {
    origin.interrupt();
  }

  @Override
  public void loadFailed(String reason) {
    HandedOverMemory handedOver = memory;
    if (gone || (handedOver != null && handedOver.isProcessGone())) {
      // Its end is no failure, and the fault thread is about to see it.
      gone("its process has ended");
      return;
    }
    if (isServing() && !guest.record().isCompleted()) {
      guest.record().setFailed();
      guest.tellFailure(reason);
    }
    loader.report(new LoaderEvent.LoadFailed(this, reason));
  }

  @Override
  public void dropped(RamBlock block, long firstPageIndex, long pageCount) {
    saver.dropped(block, firstPageIndex, pageCount);
    PostcopyEngine running = engine;
    if (running != null) {
      running.drop(block, firstPageIndex, pageCount);
    }
  }

  @Override
  public void forked(int descriptor) {
    HandedOverPagePlacer pages = placer;
    if (pages != null) {
      pages.shareFiles();
    }
    family.forked(this, Objects.requireNonNull(memory), descriptor);
  }

  @Override
  public void gone(String reason) {
    synchronized (this) {
      if (gone) {
        return;
      }
      gone = true;
    }
    saver.gone(reason);
    family.gone(this, reason);
  }

  @Override
  public void misbehaved(String reason) {
    PostcopyEngine running = engine;
    if (running != null) {
      running.fail("guest " + guest.id() + ": " + reason);
    } else {
      loadFailed(reason);
    }
  }

  /** A fork's child shares the files of its parent. */
  void shareFiles() {
    HandedOverPagePlacer pages = placer;
    if (pages != null) {
      pages.shareFiles();
    }
  }

  /**
   * All pages are in: nothing of the guest is registered any more, so that it depends on nobody.
   * The fault thread stays: an event may be on its way, and whoever caused it waits.
   */
  @Override
  public void detachGuest() {
    HandedOverMemory handedOver = memory;
    HandedOverPagePlacer pages = placer;
    HandedOverFaultSource faults = faultSource;
    if (handedOver != null && pages != null && faults != null) {
      faults.handOverTo(new SettledGuest(pages));
      if (!handedOver.unregister()) {
        log.info("guest stays registered guest={}", guest.id());
      }
    }
    loader.report(new LoaderEvent.GuestDetached(this));
    origin.loaded();
  }

  @Override
  public void release() {
    origin.stop();
    HandedOverMemory handedOver = memory;
    HandedOverPagePlacer pages = placer;
    HandedOverFaultSource faults = faultSource;
    if (!gone && !leaving && handedOver != null && pages != null && faults != null) {
      faults.handOverTo(refusing(handedOver, faults, pages));
      handedOver.wakeAll();
    } else {
      stopFaultThread();
    }
    origin.close();
  }

  /** The guest has ended, or the daemon does: stops the fault thread and frees what it used. */
  void end() {
    stopFaultThread();
    HandedOverFaultSource faults = faultSource;
    faultSource = null;
    if (faults != null) {
      faults.close();
    }
    HandedOverPagePlacer pages = placer;
    placer = null;
    if (pages != null) {
      pages.close();
    }
  }

  /** The guest is left as it is, to a daemon that comes after this one. */
  void leave() {
    leaving = true;
  }

  /** Every page that is missing raises SIGBUS from now on, also without anybody serving it. */
  void poisonMissing() {
    HandedOverMemory handedOver = memory;
    HandedOverPagePlacer pages = placer;
    HandedOverFaultSource faults = faultSource;
    if (handedOver == null || pages == null || faults == null || handedOver.isProcessGone()) {
      return;
    }
    refusing(handedOver, faults, pages).poisonAll();
  }

  private RefusedGuest refusing(
      HandedOverMemory handedOver, HandedOverFaultSource faults, HandedOverPagePlacer pages) {
    return new RefusedGuest(guest, handedOver, faults, pages, context.options().signal());
  }

  private void stopFaultThread() {
    FaultThread thread = faultThread;
    faultThread = null;
    if (thread != null) {
      thread.close();
    }
  }
}
