package dev.postcopyd.postcopy;

import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import java.io.IOException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Brings every page of a guest in exactly once: fault → claim → fetch → place → received.
 *
 * <p>A fault on a page that is in the guest already is only woken; one on a page that somebody else
 * is fetching waits for that fetch, whose placement wakes it; any other is fetched here and now, on
 * the fault thread. Each page is fetched by the owner of its claim and placed before it is marked
 * received, so that neither a fetch nor a placement happens twice under any interleaving.
 *
 * <p>Threads: {@link #fault} is called by the one fault thread, {@link #load} by loader threads,
 * the {@link PageSink} methods by whatever thread the handler delivers on. Nothing on these paths
 * allocates while all goes well. The engine owns its bitmaps and nothing else.
 */
public final class PostcopyEngine implements FaultSink, PageSink {
  private static final Logger log = LoggerFactory.getLogger(PostcopyEngine.class);

  private static final int AROUND_PAGES = 16;
  private static final int AROUND_THRESHOLD = 4;

  private final RamBlockTable table;
  private final PostcopyPageHandler handler;
  private final PagePlacer placer;
  private final EngineListener listener;
  private final PostcopyMetrics metrics;
  private final FaultOrder faultOrder;
  private final ClaimBitmap claims;
  private final ReceivedBitmap received;
  private final OutstandingFaults outstanding = new OutstandingFaults();
  private final LoadProgress progress = new LoadProgress();
  private final AtomicLong remainingPages;
  private final AtomicBoolean failed = new AtomicBoolean();
  private volatile long faultHint = -1;
  private boolean faultAround;

  /** An engine that keeps no record of the order of faults. */
  public PostcopyEngine(
      RamBlockTable table,
      PostcopyPageHandler handler,
      PagePlacer placer,
      EngineListener listener,
      PostcopyMetrics metrics) {
    this(table, handler, placer, listener, metrics, FaultOrder.off());
  }

  /**
   * @param faultOrder where the pages that the guest had to wait for are noted
   */
  public PostcopyEngine(
      RamBlockTable table,
      PostcopyPageHandler handler,
      PagePlacer placer,
      EngineListener listener,
      PostcopyMetrics metrics,
      FaultOrder faultOrder) {
    this.table = table;
    this.handler = handler;
    this.placer = placer;
    this.listener = listener;
    this.metrics = metrics;
    this.faultOrder = faultOrder.withPagesOf(table);
    this.claims = new ClaimBitmap(table);
    this.received = new ReceivedBitmap(table);
    this.remainingPages = new AtomicLong(table.totalPages());
  }

  /**
   * Lets faults bring in their neighbours where the guest has shown that it wants them, see {@link
   * #fetchAround}. To be called before the first fault.
   */
  public void enableFaultAround() {
    faultAround = true;
  }

  public RamBlockTable table() {
    return table;
  }

  public ReceivedBitmap received() {
    return received;
  }

  public LoadProgress progress() {
    return progress;
  }

  /** How long the guest's threads have waited so far. */
  public Blocktime.Figures blocktime() {
    return outstanding.blocktime();
  }

  public boolean isComplete() {
    return remainingPages.get() == 0;
  }

  /** True once the load has failed: nothing is fetched any more. */
  public boolean hasFailed() {
    return failed.get();
  }

  ClaimBitmap claims() {
    return claims;
  }

  FaultOrder faultOrder() {
    return faultOrder;
  }

  PostcopyPageHandler handler() {
    return handler;
  }

  /** True while somebody waits for a page; loaders hold back then. */
  public boolean hasOutstandingFaults() {
    return !outstanding.isEmpty();
  }

  /** Where the guest faulted last, once; -1 if it has not since the last call. */
  long takeFaultHint() {
    long hint = faultHint;
    if (hint >= 0) {
      faultHint = -1;
    }
    return hint;
  }

  @Override
  public void fault(RamBlock block, long pageIndex, int threadId, long faultNanos) {
    // Also if the page has just come in: somebody wanted it before it was there.
    faultOrder.note(pageIndex);
    if (received.isReceived(pageIndex)) {
      placer.wake(block, pageIndex);
      return;
    }
    progress.faults.increment();
    outstanding.begin(pageIndex, threadId, faultNanos);
    if (failed.get()) {
      return;
    }
    if (claims.tryClaim(pageIndex)) {
      handler.fetch(block, pageIndex, 1, Urgency.FAULT, this);
      faultHint = pageIndex + 1;
      if (faultAround && block.hostPageSize().shift() == PageSize.SIZE_4K.shift()) {
        fetchAround(block, pageIndex);
      }
    } else if (received.isReceived(pageIndex)) {
      // Placed between the two looks: that placement may have looked for waiters before this one
      // was noted.
      outstanding.end(pageIndex, 1, System.nanoTime(), metrics);
      placer.wake(block, pageIndex);
    }
  }

  /**
   * Fetches the rest of the 64 KiB around a page that has just been placed, if some of it is there
   * already. Whoever touches a fourth page there is likely to touch more, and from the sixth on
   * this is cheaper than faults one by one; who touches pages far from each other never gets here.
   * The page itself came first, so that nobody waits for its neighbours.
   */
  private void fetchAround(RamBlock block, long pageIndex) {
    long first = pageIndex & -AROUND_PAGES;
    long end = Math.min(first + AROUND_PAGES, block.endPageIndex());
    int there = received.countReceived(first, AROUND_PAGES);
    if (there < AROUND_THRESHOLD || there >= end - first) {
      return;
    }
    long page = claims.nextUnclaimed(first, end);
    while (page >= 0 && !failed.get()) {
      int count = claims.tryClaimRun(page, (int) (end - page));
      if (count > 0) {
        for (int i = 0; i < count; i++) {
          faultOrder.note(page + i);
        }
        handler.fetch(block, page, count, Urgency.EAGER, this);
      }
      page = claims.nextUnclaimed(page + Math.max(count, 1), end);
    }
  }

  @Override
  public void guestGone(String reason) {
    fail("the guest is gone: " + reason);
  }

  /**
   * A page has come that may not have been asked for.
   *
   * @return true if nobody had claimed it: nobody fetches it any more, and the caller delivers it
   */
  public boolean claimArrived(long pageIndex) {
    return claims.tryClaim(pageIndex);
  }

  /** Called by each thread before its first fault or load. */
  void prepareThread() {
    handler.prepareThread();
    placer.prepareThread();
  }

  /** Fetches pages that the caller has claimed. */
  void load(RamBlock block, long firstPageIndex, int pageCount) {
    handler.fetch(block, firstPageIndex, pageCount, Urgency.EAGER, this);
  }

  /** Fetches pages that the caller has claimed because a recording says that they come first. */
  void prefetch(RamBlock block, long firstPageIndex, int pageCount) {
    progress.prefetchedPages.add(pageCount);
    metrics.pagesPrefetched(pageCount);
    handler.fetch(block, firstPageIndex, pageCount, Urgency.PREFETCH, this);
  }

  @Override
  public void data(
      RamBlock block, long firstPageIndex, int pageCount, long sourceAddress, Urgency urgency) {
    PlaceResult result = placer.placeData(block, firstPageIndex, pageCount, sourceAddress, urgency);
    int placed = settle(block, firstPageIndex, pageCount, result);
    if (placed > 0) {
      long bytes = block.hostPageSize().offsetOf(placed);
      progress.dataBytes.add(bytes);
      metrics.dataPlaced(urgency == Urgency.FAULT, block.hostPageSize().shift(), placed, bytes);
      receive(firstPageIndex, placed, block, result instanceof PlaceResult.Withheld);
    }
  }

  @Override
  public void zero(RamBlock block, long firstPageIndex, int pageCount, Urgency urgency) {
    PlaceResult result = placer.placeZero(block, firstPageIndex, pageCount, urgency);
    int placed = settle(block, firstPageIndex, pageCount, result);
    if (placed > 0) {
      long bytes = block.hostPageSize().offsetOf(placed);
      progress.zeroBytes.add(bytes);
      metrics.zeroPlaced(urgency == Urgency.FAULT, block.hostPageSize().shift(), placed, bytes);
      receive(firstPageIndex, placed, block, result instanceof PlaceResult.Withheld);
    }
  }

  @Override
  public void failed(RamBlock block, long firstPageIndex, int pageCount, IOException cause) {
    claims.release(firstPageIndex, pageCount);
    metrics.fetchFailed();
    log.debug(
        "fetch failed block={} page={} count={}", block.name(), firstPageIndex, pageCount, cause);
    fail(String.valueOf(cause.getMessage()));
  }

  /** How many pages of a run were placed; takes care of those that were not. */
  private int settle(RamBlock block, long firstPageIndex, int pageCount, PlaceResult result) {
    if (result instanceof PlaceResult.Placed || result instanceof PlaceResult.Withheld) {
      return pageCount; // before the switch, whose first use links a call site
    }
    return switch (result) {
      case PlaceResult.Placed _, PlaceResult.Withheld _ -> pageCount;
      case PlaceResult.TargetGone gone -> {
        claims.release(firstPageIndex + gone.pagesPlaced(), pageCount - gone.pagesPlaced());
        fail("the guest is gone: its memory at block " + block.name() + " is no longer there");
        yield gone.pagesPlaced();
      }
      case PlaceResult.Refused refused -> {
        claims.release(firstPageIndex + refused.pagesPlaced(), pageCount - refused.pagesPlaced());
        fail(refused.reason());
        yield refused.pagesPlaced();
      }
    };
  }

  private void receive(long firstPageIndex, int pageCount, RamBlock block, boolean withheld) {
    int fresh = received.markReceived(firstPageIndex, pageCount);
    if (fresh != pageCount) {
      throw new IllegalStateException(
          "placed twice: "
              + (pageCount - fresh)
              + " of "
              + pageCount
              + " pages from page index "
              + firstPageIndex);
    }
    if (withheld) {
      // A fault noted before the marking waits for a placement that has not happened; one noted
      // after it sees the mark.
      wakeAwaited(block, firstPageIndex, firstPageIndex + pageCount);
    }
    if (!outstanding.isEmpty()) {
      outstanding.end(firstPageIndex, pageCount, System.nanoTime(), metrics);
    }
    if (remainingPages.addAndGet(-fresh) == 0) {
      listener.allPagesReceived();
    }
  }

  private void wakeAwaited(RamBlock block, long fromPageIndex, long endPageIndex) {
    long page = outstanding.firstAwaited(fromPageIndex, endPageIndex);
    while (page >= 0) {
      placer.wake(block, page);
      page = outstanding.firstAwaited(page + 1, endPageIndex);
    }
  }

  /**
   * Pages that an earlier connection has brought in: they are neither fetched nor placed again. To
   * be called before any fault and any load.
   *
   * @param data whether the pages hold data, for the figures
   */
  public boolean alreadyReceived(RamBlock block, long firstPageIndex, int pageCount, boolean data) {
    int claimed = claims.tryClaimRun(firstPageIndex, pageCount);
    if (claimed != pageCount || received.markReceived(firstPageIndex, pageCount) != pageCount) {
      return false;
    }
    long bytes = block.hostPageSize().offsetOf(pageCount);
    (data ? progress.dataBytes : progress.zeroBytes).add(bytes);
    long _ = remainingPages.addAndGet(-pageCount);
    return true;
  }

  /**
   * Pages that the guest has given back: nobody fetches them any more. Those that somebody is
   * fetching stay with that fetch, whose placement finds out.
   */
  public void drop(RamBlock block, long firstPageIndex, long pageCount) {
    long end = firstPageIndex + pageCount;
    long page = claims.nextUnclaimed(firstPageIndex, end);
    while (page >= 0) {
      int claimed = claims.tryClaimRun(page, (int) Math.min(end - page, Integer.MAX_VALUE));
      if (claimed > 0) {
        progress.zeroBytes.add(block.hostPageSize().offsetOf(claimed));
        receive(page, claimed, block, false);
      }
      page = claims.nextUnclaimed(page + Math.max(claimed, 1), end);
    }
  }

  /** Ends the load for good; only the first reason counts. */
  public void fail(String reason) {
    if (failed.compareAndSet(false, true)) {
      listener.loadFailed(reason);
    }
  }
}
