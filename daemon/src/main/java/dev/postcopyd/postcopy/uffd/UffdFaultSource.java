package dev.postcopyd.postcopy.uffd;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.EventFd;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.TimeSlice;
import dev.postcopyd.postcopy.FaultSink;
import dev.postcopyd.postcopy.FaultSource;
import dev.postcopyd.uffd.UffdEventBuffer;
import dev.postcopyd.uffd.UffdFeature;
import dev.postcopyd.uffd.UffdOptions;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.util.Arrays;
import java.util.concurrent.locks.LockSupport;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Faults read from a userfaultfd.
 *
 * <p>{@link #serve} sleeps in poll(2) on the userfaultfd and on an eventfd that {@link #stop}
 * signals; the userfaultfd must be non-blocking. Nothing is allocated for a fault. Does not own the
 * userfaultfd; owns its eventfd and its poll set, which {@link #close} closes after serve has
 * returned.
 */
public final class UffdFaultSource implements FaultSource, PendingEvents, AutoCloseable {
  /** What a userfaultfd over the daemon's own memory is asked for. */
  public static final UffdOptions OWN_MEMORY_OPTIONS =
      UffdOptions.defaults().wanting(UffdFeature.THREAD_ID, UffdFeature.MISSING_HUGETLBFS);

  private static final Logger log = LoggerFactory.getLogger(UffdFaultSource.class);
  private static final int EVENTS_PER_READ = 64;
  private static final long AGAIN_PARK_NANOS = 20_000;

  private final Userfaultfd uffd;
  private final GuestRegions regions;
  private final EventFd stopSignal;
  private final Poll poll;
  private final UffdEventBuffer events;
  private final UffdEventBuffer eventsWhilePlacing;
  private volatile boolean stopped;
  private volatile @Nullable Thread servingThread;

  // Faults that were read while a placement waited for events to be read; serving thread only.
  private long[] deferredAddresses = new long[EVENTS_PER_READ];
  private int[] deferredThreadIds = new int[EVENTS_PER_READ];
  private int deferredCount;

  public UffdFaultSource(Userfaultfd uffd, RamBlockTable table, long[] baseAddresses)
      throws IOException {
    this.uffd = uffd;
    this.regions = new GuestRegions(table, baseAddresses);
    this.stopSignal = EventFd.create();
    this.poll = Poll.readable(uffd.fd(), stopSignal.fd());
    this.events = new UffdEventBuffer(EVENTS_PER_READ);
    this.eventsWhilePlacing = new UffdEventBuffer(EVENTS_PER_READ);
  }

  @Override
  public void serve(FaultSink sink) throws IOException {
    servingThread = Thread.currentThread();
    // A vCPU waits, and should not for whoever loads what nobody waits for.
    boolean _ = TimeSlice.shorten();
    try {
      // The loop is entered once and stays in the code that it is entered with: what it calls is
      // compiled anew while it runs, so all the work is in there.
      while (!stopped) {
        serveOnce(sink);
      }
    } finally {
      servingThread = null;
    }
  }

  private void serveOnce(FaultSink sink) throws IOException {
    poll.await(-1);
    if (poll.isReadable(0)) {
      serveReadable(sink);
    } else if (poll.isBroken(0)) {
      throw new IOException(
          "poll on the userfaultfd answers POLLERR: it is not in non-blocking mode");
    }
  }

  private void serveReadable(FaultSink sink) throws IOException {
    int count = uffd.read(events);
    long nowNanos = System.nanoTime();
    for (int i = 0; i < count; i++) {
      if (events.isPagefault(i)) {
        report(sink, events.faultAddress(i), events.threadId(i), nowNanos);
      } else {
        log.warn("unexpected event on userfaultfd event={}", events.event(i));
      }
    }
    // Reporting a fault may have read, and so deferred, further ones: until none is left.
    for (int i = 0; i < deferredCount; i++) {
      report(sink, deferredAddresses[i], deferredThreadIds[i], System.nanoTime());
    }
    deferredCount = 0;
  }

  private void report(FaultSink sink, long address, int threadId, long nowNanos) {
    RamBlock block = regions.blockAt(address);
    if (block == null) {
      log.error("fault outside of every block address=0x{}", Long.toHexString(address));
      return;
    }
    sink.fault(block, regions.pageIndexAt(block, address), threadId, nowNanos);
  }

  /**
   * {@inheritDoc}
   *
   * <p>On the serving thread the events are read here and their faults kept for later; on any other
   * thread the serving thread is given the time to do so.
   */
  @Override
  public void awaitRead() throws IOException {
    if (!Thread.currentThread().equals(servingThread)) {
      LockSupport.parkNanos(AGAIN_PARK_NANOS);
      return;
    }
    int count = uffd.read(eventsWhilePlacing);
    for (int i = 0; i < count; i++) {
      if (eventsWhilePlacing.isPagefault(i)) {
        defer(eventsWhilePlacing.faultAddress(i), eventsWhilePlacing.threadId(i));
      } else {
        log.warn("unexpected event on userfaultfd event={}", eventsWhilePlacing.event(i));
      }
    }
  }

  private void defer(long address, int threadId) {
    if (deferredCount == deferredAddresses.length) {
      deferredAddresses = Arrays.copyOf(deferredAddresses, deferredCount * 2);
      deferredThreadIds = Arrays.copyOf(deferredThreadIds, deferredCount * 2);
    }
    deferredAddresses[deferredCount] = address;
    deferredThreadIds[deferredCount] = threadId;
    deferredCount++;
  }

  @Override
  public void stop() {
    stopped = true;
    stopSignal.signal();
  }

  @Override
  public void close() {
    poll.close();
    stopSignal.close();
  }
}
