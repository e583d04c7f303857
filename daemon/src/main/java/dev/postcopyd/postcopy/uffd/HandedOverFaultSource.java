package dev.postcopyd.postcopy.uffd;

import static dev.postcopyd.posix.abi.PosixConstants.POLLIN;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.EventFd;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.StreamEnd;
import dev.postcopyd.posix.TimeSlice;
import dev.postcopyd.postcopy.FaultSink;
import dev.postcopyd.postcopy.FaultSource;
import dev.postcopyd.uffd.UffdEventBuffer;
import dev.postcopyd.uffd.UffdResult;
import dev.postcopyd.uffd.Userfaultfd;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Objects;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.locks.LockSupport;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Faults and events from the userfaultfd of another process, and the end of that process.
 *
 * <p>{@link #serve} reads a batch while the gate is closed, applies the events in it at once and in
 * their order, and reports the faults afterwards, so that no fault is answered by what was true
 * before an event that stands behind it. A fault is resolved to its page when it is read: the page
 * may have moved when its turn comes. Faults that are read while a placement waits for events join
 * the queue; none is lost, and whoever is killed in between is followed by somebody who wakes all.
 *
 * <p>Nothing is allocated for a fault. Owns its eventfd, its poll set and a buffer, which {@link
 * #close} closes after serve has returned; neither the userfaultfd nor the connection.
 */
public final class HandedOverFaultSource implements FaultSource, PendingEvents, AutoCloseable {
  /** Events read at a time. */
  public static final int EVENTS_PER_READ = 64;

  private static final Logger log = LoggerFactory.getLogger(HandedOverFaultSource.class);
  private static final long AGAIN_PARK_NANOS = 20_000;
  private static final long LOOK_NANOS = 300_000_000L;
  private static final int STRAY_FAULTS = 8;
  private static final int SPINS_PER_YIELD = 4;
  private static final int USERFAULTFD = 0;
  private static final int SIGNAL = 1;
  private static final int CONNECTION = 2;

  private final Userfaultfd uffd;
  private final HandedOverMemory memory;
  private final GuestChanges changes;
  private final int connection;
  private final EventFd signal;
  private final Poll poll;
  private final UffdEventBuffer events;

  /** Not made when something comes: a guest may be waiting for what it says. */
  private final Arena arena = Arena.ofShared();

  private final MemorySegment received = arena.allocate(StreamEnd.ROOM_BYTES);
  private volatile boolean stopped;
  private volatile @Nullable Thread servingThread;
  private volatile @Nullable Handover next;
  private volatile @Nullable ConnectionListener listener;

  // Faults that were read and not reported yet; serving thread only.
  private @Nullable RamBlock[] queuedBlocks = new RamBlock[EVENTS_PER_READ];
  private long[] queuedPages = new long[EVENTS_PER_READ];
  private int[] queuedThreadIds = new int[EVENTS_PER_READ];
  private int queued;
  private int strayFaults;
  private int emptyReads;

  /** Takes what comes on the connection; on the serving thread. */
  public interface ConnectionListener {
    void accept(byte[] bytes);

    /**
     * Whether it wants more now; what comes meanwhile waits in the socket. The end of the guest is
     * noticed all the same.
     */
    boolean wantsMore();
  }

  /** Who is to get the faults from now on. */
  private record Handover(FaultSink sink, CountDownLatch done) {}

  /**
   * A source.
   *
   * @param connection the socket whose end is the guest's; -1 for a forked child, which has none
   */
  public HandedOverFaultSource(HandedOverMemory memory, int connection, GuestChanges changes)
      throws IOException {
    this.memory = memory;
    this.uffd = memory.userfaultfd();
    this.events = memory.events();
    this.connection = connection;
    this.changes = changes;
    this.signal = EventFd.create();
    this.poll =
        connection < 0
            ? Poll.readable(uffd.fd(), signal.fd())
            : Poll.readable(uffd.fd(), signal.fd(), connection);
  }

  @Override
  public void serve(FaultSink first) throws IOException {
    servingThread = Thread.currentThread();
    // A vCPU waits, and should not for whoever loads what nobody waits for.
    boolean _ = TimeSlice.shorten();
    FaultSink sink = first;
    try {
      while (!stopped) {
        Handover handover = next;
        if (handover != null) {
          next = null;
          sink = handover.sink;
          handover.done.countDown();
        }
        serveOnce(sink);
      }
    } finally {
      servingThread = null;
      Handover handover = next;
      if (handover != null) {
        handover.done.countDown();
      }
    }
  }

  /**
   * Gives all further faults to another sink; returns when the one before gets none any more. Not
   * to be called on the serving thread.
   */
  public void handOverTo(FaultSink sink) {
    Handover handover = new Handover(sink, new CountDownLatch(1));
    next = handover;
    signal.signal();
    Thread serving = servingThread;
    boolean interrupted = false;
    while (serving != null && serving.isAlive() && !stopped) {
      try {
        if (handover.done.await(10, java.util.concurrent.TimeUnit.MILLISECONDS)) {
          break;
        }
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private void serveOnce(FaultSink sink) throws IOException {
    if (connection >= 0) {
      ConnectionListener to = listener;
      poll.events(CONNECTION, to == null || to.wantsMore() ? POLLIN : 0);
    }
    int ready = poll.await(LOOK_NANOS);
    if (poll.isReadable(USERFAULTFD)) {
      serveReadable(sink);
    } else if (poll.isBroken(USERFAULTFD)) {
      throw new IOException(
          "poll on the userfaultfd answers POLLERR: it is not in non-blocking mode");
    }
    if (ready == 0 && memory.isProcessGone()) {
      end("its process has ended");
    } else if (connection >= 0 && poll.ready(CONNECTION) != 0) {
      lookAtConnection();
    }
    if (poll.isReadable(SIGNAL)) {
      boolean _ = signal.drain();
    }
  }

  private void serveReadable(FaultSink sink) throws IOException {
    readBatch();
    long nowNanos = System.nanoTime();
    // Reporting a fault may read, and so queue, further ones: until none is left.
    for (int i = 0; i < queued; i++) {
      sink.fault(
          Objects.requireNonNull(queuedBlocks[i]), queuedPages[i], queuedThreadIds[i], nowNanos);
    }
    queued = 0;
  }

  /** Reads what is pending, applies its events, and queues its faults; answers how many it was. */
  private int readBatch() throws IOException {
    if (!memory.isEventful()) {
      return take(uffd.read(events));
    }
    memory.gate().close();
    try {
      return take(uffd.read(events));
    } finally {
      memory.gate().open();
    }
  }

  private int take(int count) {
    for (int i = 0; i < count; i++) {
      if (events.isPagefault(i)) {
        queue(events.faultAddress(i), events.threadId(i));
      } else {
        memory.apply(i, changes);
        events.forget(i);
      }
    }
    return count;
  }

  private void queue(long address, int threadId) {
    GuestSegments.Segment segment = memory.segments().at(address);
    if (segment == null) {
      stray(address);
      return;
    }
    if (queued == queuedPages.length) {
      queuedBlocks = Arrays.copyOf(queuedBlocks, queued * 2);
      queuedPages = Arrays.copyOf(queuedPages, queued * 2);
      queuedThreadIds = Arrays.copyOf(queuedThreadIds, queued * 2);
    }
    queuedBlocks[queued] = segment.block();
    queuedPages[queued] = segment.pageIndexAt(address);
    queuedThreadIds[queued] = threadId;
    queued++;
  }

  /** A fault that no mapping explains: once or twice it may be a race with an unmapping. */
  private void stray(long address) {
    long page = address & -4096L;
    strayFaults++;
    if (strayFaults <= STRAY_FAULTS) {
      UffdResult _ = uffd.wake(page, 4096);
      return;
    }
    if (strayFaults == STRAY_FAULTS + 1) {
      changes.misbehaved(
          "fault at 0x" + Long.toHexString(address) + ", outside of every mapping that it named");
    }
    UffdResult _ = uffd.poison(page, 4096, 0);
  }

  /** Bytes are of interest only to whoever has said so: else only the end is. */
  private void lookAtConnection() {
    byte[] bytes = StreamEnd.take(connection, received);
    if (bytes == null) {
      end("its connection has ended");
      return;
    }
    ConnectionListener to = listener;
    if (to != null && bytes.length > 0) {
      to.accept(bytes);
    }
  }

  /**
   * Gives what comes on the connection from now on to a listener, on the serving thread; null:
   * nobody. What comes while there is none is thrown away.
   */
  public void listen(@Nullable ConnectionListener to) {
    listener = to;
  }

  /** The listener may want more again. */
  public void readOn() {
    signal.signal();
  }

  private void end(String reason) {
    stopped = true;
    log.debug("guest gone reason=\"{}\"", reason);
    changes.gone(reason);
  }

  /**
   * {@inheritDoc}
   *
   * <p>On the serving thread, or if there is none any more, the events are read here and their
   * faults kept for later; on any other thread the serving thread is given the time to do so.
   */
  @Override
  @SuppressWarnings("ThreadPriorityCheck")
  public void awaitRead() throws IOException {
    Thread serving = servingThread;
    if (serving != null && !Thread.currentThread().equals(serving)) {
      LockSupport.parkNanos(AGAIN_PARK_NANOS);
      return;
    }
    if (readBatch() > 0) {
      emptyReads = 0;
      return;
    }
    // The thread that caused the event has to run before the kernel takes placements again: on
    // another CPU that is a moment, on this one it needs the CPU.
    emptyReads++;
    if (emptyReads % SPINS_PER_YIELD == 0) {
      Thread.yield();
    } else {
      Thread.onSpinWait();
    }
  }

  /** Whether the calling thread is the one that reads the events. */
  boolean isServing() {
    return Thread.currentThread().equals(servingThread);
  }

  @Override
  public void stop() {
    stopped = true;
    signal.signal();
  }

  @Override
  public void close() {
    poll.close();
    signal.close();
    arena.close();
  }
}
