package dev.postcopyd.postcopy.network;

import dev.postcopyd.page.PageSet;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.postcopy.LoadPacer;
import dev.postcopyd.postcopy.PageSink;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.source.PageRequests;
import dev.postcopyd.source.UrgentChannel;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/**
 * Resolves pages by asking a migration source for them, and delivers whatever it sends, asked for
 * or not: the guest has been switched over.
 *
 * <pre>
 * fetch (fault thread, loader)  →  asked for; if there is a connection, a request goes out
 * data, zero (channels)         →  Arrivals.add, admit: whose page is it? → engine: placed, received
 * attach (a new connection)     →  all that was asked for and has not come is asked for again
 * finish (the stream's end)     →  what has not come is zero
 * </pre>
 *
 * <p>Exactly once: a page's bit in {@link Arrivals} is set once, whatever a source sends twice, and
 * then its claim is either one that was asked with, or still there for the taking. A page that
 * comes while a fault is claiming it is asked for in vain, and served by its arrival.
 *
 * <p>Pages come straight from the buffer that they were received into. Safe for any thread;
 * allocates nothing per page. Owns nothing.
 */
public final class SourcePages implements PostcopyPageHandler, ArrivingPages {
  private static final int PAGE_BYTES = (int) StreamFormat.TARGET_PAGE_SIZE.bytes();

  /** Whoever waits for one of them waits for all. */
  private static final int MAX_ZERO_RUN_PAGES = 512;

  /** How long a connection may take to be seen that has been announced. */
  private static final long UNSEEN_NANOS = TimeUnit.SECONDS.toNanos(2);

  /** How long nothing comes of what was asked for; a network that loses this much is broken. */
  private static final long OPEN_NANOS = TimeUnit.SECONDS.toNanos(60);

  private static final long LOOK_NANOS = TimeUnit.MILLISECONDS.toNanos(2);

  private final RamBlockTable table;
  private final Arrivals arrivals;
  private final @Nullable PrecopyMemory earlier;
  private final PageSet waitedFor;
  private final PageSet askedAhead;
  private final Readahead readahead = new Readahead();
  private volatile @Nullable PostcopyEngine engine;
  private volatile @Nullable PageRequests requests;
  private volatile boolean finished;

  /**
   * A handler for pages that have not come.
   *
   * @param arrivals what has come before the guest was switched over
   * @param earlier where that is, if it is not in the guest's memory
   */
  public SourcePages(Arrivals arrivals, @Nullable PrecopyMemory earlier) {
    this.table = arrivals.table();
    this.arrivals = arrivals;
    this.earlier = earlier;
    this.waitedFor = new PageSet(table);
    this.askedAhead = new PageSet(table);
  }

  /** What is delivered to; before anything is fetched or comes. */
  public void deliverTo(PostcopyEngine to) {
    engine = to;
    readahead.watch(to);
  }

  /** Bytes that the loader asks for at a time. */
  public static long readaheadRunBytes() {
    return (long) Readahead.RUN_PAGES * PAGE_BYTES;
  }

  /** When the loader may ask for more. */
  public LoadPacer pacer() {
    return readahead;
  }

  /** The loader is not held back any more. */
  public void stop() {
    readahead.stop();
  }

  /**
   * There is a connection, on which nothing has been asked for: asks for all that is waited for.
   */
  public void attach(PageRequests to) {
    requests = to;
    askAgain(waitedFor, to);
    askAgain(askedAhead, to);
    readahead.attached(true);
  }

  private void askAgain(PageSet asked, PageRequests to) {
    for (RamBlock block : table.blocks()) {
      long page = asked.next(block.firstPageIndex(), block.endPageIndex());
      while (page >= 0) {
        if (!arrivals.pages().contains(page)) {
          to.request(block, page, 1);
        }
        page = asked.next(page + 1, block.endPageIndex());
      }
    }
  }

  /** The connection is gone: what is asked for waits for the next one. */
  public void detach() {
    requests = null;
    readahead.attached(false);
  }

  @Override
  public void prepareThread() {
    StreamSocket.prepareThread();
  }

  @Override
  public void fetch(
      RamBlock block, long firstPageIndex, int pageCount, Urgency urgency, PageSink sink) {
    PrecopyMemory before = earlier;
    if (before == null) {
      ask(block, firstPageIndex, pageCount, urgency);
      return;
    }
    int done = 0;
    while (done < pageCount) {
      long page = firstPageIndex + done;
      int run = 1;
      if (before.has(page)) {
        deliverEarlier(before, block, page, urgency, sink);
      } else {
        while (done + run < pageCount && !before.has(page + run)) {
          run++;
        }
        ask(block, page, run, urgency);
      }
      done += run;
    }
  }

  private static void deliverEarlier(
      PrecopyMemory before, RamBlock block, long page, Urgency urgency, PageSink sink) {
    if (before.holdsData(page)) {
      sink.data(block, page, 1, before.addressOf(block, page), urgency);
    } else {
      sink.zero(block, page, 1, urgency);
    }
  }

  private void ask(RamBlock block, long firstPageIndex, int pageCount, Urgency urgency) {
    if (urgency == Urgency.FAULT) {
      waitedFor.add(firstPageIndex, pageCount);
      readahead.faulted();
    } else {
      askedAhead.add(firstPageIndex, pageCount);
      readahead.asked(pageCount);
    }
    if (finished) {
      zeroMissing(block, firstPageIndex, firstPageIndex + pageCount);
      return;
    }
    PageRequests to = requests;
    if (to != null) {
      to.request(block, firstPageIndex, pageCount);
    }
  }

  /**
   * A page has come for the first time: takes it out of what was asked for, or out of what can be
   * claimed, so that this thread and nobody else delivers it.
   *
   * @return how urgent it was; null if nobody wants it: the guest has given it back
   */
  private @Nullable Urgency admit(PostcopyEngine to, long page) {
    while (true) {
      if (waitedFor.remove(page)) {
        return Urgency.FAULT;
      }
      if (askedAhead.remove(page)) {
        readahead.came(1);
        return Urgency.PREFETCH;
      }
      if (to.claimArrived(page)) {
        return Urgency.EAGER;
      }
      if (to.received().isReceived(page) || to.hasFailed()) {
        return null;
      }
      // Somebody is between claiming it and asking for it.
      LockSupport.parkNanos(1_000);
    }
  }

  private PostcopyEngine engine() {
    PostcopyEngine to = engine;
    if (to == null) {
      throw new IllegalStateException("there is no engine to deliver to");
    }
    return to;
  }

  @Override
  public void data(RamBlock block, long offsetBytes, int pageCount, long address, int strideBytes)
      throws IOException {
    PostcopyEngine to = engine();
    long first = block.pageIndexAt(offsetBytes);
    arrivals.countData(pageCount);
    if (earlier == null) {
      arrivals.requireRoomAfterSwitch();
    }
    boolean unasked = false;
    for (int i = 0; i < pageCount; i++) {
      long page = first + i;
      if (arrivals.pages().add(page)) {
        Urgency urgency = admit(to, page);
        if (urgency != null) {
          unasked |= urgency == Urgency.EAGER;
          to.data(block, page, 1, address + (long) i * strideBytes, urgency);
        }
      }
    }
    if (unasked) {
      readahead.pushed();
    }
    requireGoing(to);
  }

  @Override
  public void zero(RamBlock block, long offsetBytes, int pageCount) throws IOException {
    PostcopyEngine to = engine();
    long first = block.pageIndexAt(offsetBytes);
    arrivals.countZero(pageCount);
    if (zeroMissing(block, first, first + pageCount)) {
      readahead.pushed();
    }
    requireGoing(to);
  }

  /** Places zeros where nothing has come; answers whether some of it had not been asked for. */
  private boolean zeroMissing(RamBlock block, long firstPageIndex, long endPageIndex) {
    PostcopyEngine to = engine();
    boolean unasked = false;
    long page = arrivals.pages().nextMissing(firstPageIndex, endPageIndex);
    while (page >= 0) {
      long end = Math.min(endPageIndex, page + MAX_ZERO_RUN_PAGES);
      int run = 0;
      Urgency urgency = Urgency.EAGER;
      while (page + run < end && arrivals.pages().add(page + run)) {
        Urgency of = admit(to, page + run);
        if (of == null) {
          break;
        }
        unasked |= of == Urgency.EAGER;
        urgency = of == Urgency.EAGER ? urgency : of;
        run++;
      }
      if (run > 0) {
        to.zero(block, page, run, urgency);
      }
      page = arrivals.pages().nextMissing(page + run, endPageIndex);
    }
    return unasked;
  }

  /** A source goes on sending to a guest that can't take it. */
  private static void requireGoing(PostcopyEngine to) throws IOException {
    if (to.hasFailed()) {
      throw new IOException("the guest takes no more pages");
    }
  }

  @Override
  public void delta(
      RamBlock block, long offsetBytes, ByteBuffer bytes, int position, int lengthBytes) {
    throw new IllegalStateException("there are no deltas once the guest has been switched over");
  }

  /** Everything has come before the guest was switched over: what has not is zero. */
  public void finishAtOnce() {
    finished = true;
    readahead.finished();
  }

  /** Whether somebody does not wait any more for what is still to come. */
  @FunctionalInterface
  public interface Ended {
    boolean isOver();
  }

  /**
   * The main channel has ended: what has not come is zero. Before that, pages that were asked for
   * and are on their way on a connection of their own are waited for.
   *
   * @param channel what is known of that connection
   * @param announced whether the client says that there is one
   * @param ended whether the connection has been lost, or the load given up
   * @throws IOException if such pages do not come
   */
  public void finish(Supplier<UrgentChannel> channel, boolean announced, Ended ended)
      throws IOException {
    long quietSince = System.nanoTime();
    long before = missing();
    while (before > 0) {
      long patience = patienceNanos(channel.get(), announced);
      if (ended.isOver()) {
        throw new IOException("the connection is lost");
      }
      if (System.nanoTime() - quietSince > patience) {
        if (channel.get() == UrgentChannel.OPEN || (announced && patience == OPEN_NANOS)) {
          throw new IOException(
              before
                  + " pages that the guest waits for have not come on the connection for urgent pages, and never will");
        }
        break;
      }
      LockSupport.parkNanos(LOOK_NANOS);
      long left = missing();
      if (left < before) {
        before = left;
        quietSince = System.nanoTime();
      }
    }
    finishAtOnce();
    for (RamBlock block : table.blocks()) {
      boolean _ = zeroMissing(block, block.firstPageIndex(), block.endPageIndex());
    }
    requireGoing(engine());
  }

  /** How long pages on their way are waited for, when nothing comes. */
  private static long patienceNanos(UrgentChannel channel, boolean announced) {
    return switch (channel) {
      // A silent one may be a stranger's, or still bring what a slow network holds: a page of zeros
      // in the place of that would be worse than waiting.
      case OPEN, SILENT -> OPEN_NANOS;
      // One that has just been accepted is not seen yet.
      case NONE -> announced ? UNSEEN_NANOS : 10 * LOOK_NANOS;
      case ENDED -> 0;
    };
  }

  /** How many pages have been asked for and have not come. */
  private long missing() {
    return waitedFor.count() + askedAhead.count();
  }

  @Override
  public void close() {
    readahead.stop();
  }
}
