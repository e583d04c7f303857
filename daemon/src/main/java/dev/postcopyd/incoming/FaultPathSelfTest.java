package dev.postcopyd.incoming;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.MemorySegmentKinds;
import dev.postcopyd.postcopy.EagerLoader;
import dev.postcopyd.postcopy.EngineListener;
import dev.postcopyd.postcopy.FaultOrder;
import dev.postcopyd.postcopy.FaultThread;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.mappedram.SnapshotPageHandler;
import dev.postcopyd.postcopy.uffd.UffdFaultSource;
import dev.postcopyd.postcopy.uffd.UffdPagePlacer;
import dev.postcopyd.snapshot.DeviceState;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.uffd.Userfaultfd;
import dev.postcopyd.workingset.WorkingSetSession;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;

/**
 * A small real load at start-up: faults and the eager loader bring in a few megabytes from a file
 * in memory, and every page is compared.
 *
 * <p>It serves twice. It finds out whether this machine lets us handle faults, before somebody's
 * guest depends on it; and it runs every method of the fault path often enough to be linked and
 * compiled, since the first faults of a cold JVM take milliseconds and those of a guest must not.
 *
 * <p>Its pages go into no metrics but its own, and it has a deadline: a machine on which it hangs
 * is reported, not waited for.
 */
public final class FaultPathSelfTest {
  private static final int PAGES = 2048;
  private static final long PAGE_BYTES = 4096;
  private static final int REAL_FAULTS = 512;
  private static final int DIRECT_FAULTS = 1024;
  private static final int PREFETCHED_PAGES = 64;
  private static final int ROUNDS = 2;
  private static final long DEADLINE_SECONDS = 5;

  private FaultPathSelfTest() {}

  /**
   * Runs the test on the calling thread and two of its own.
   *
   * @throws IOException if userfaultfd is not to be had, or does not do what it should; the message
   *     says why and what to do
   */
  public static void run() throws IOException {
    MemorySegmentKinds.load();
    for (int round = 0; round < ROUNDS; round++) {
      runOnce();
    }
  }

  private static void runOnce() throws IOException {
    try (MemoryMapping contents = MemoryMapping.anonymous(PAGES * PAGE_BYTES)) {
      fill(contents.asSegment());
      try (Snapshot snapshot = SnapshotOpener.open(SelfTestSnapshot.write(contents), 0)) {
        DeviceState _ = DeviceState.of(snapshot.machineState().orElseThrow(), 0);
        try (LocalGuest guest = LocalGuest.allocate(MemoryLayout.BASE_PAGES.layOut(snapshot))) {
          Userfaultfd uffd = Userfaultfd.open(UffdFaultSource.OWN_MEMORY_OPTIONS);
          guest.arm(uffd);
          load(snapshot, guest, uffd);
          guest.disarm();
          compare(contents, guest.memoryOf(guest.table().blocks().getFirst()));
        }
      }
    }
  }

  /** Runs of data and of zero pages, of many lengths. */
  static void fill(MemorySegment contents) {
    for (int i = 0; i < PAGES; i++) {
      if ((i * 37 % 64) < 48) {
        contents.asSlice(i * PAGE_BYTES, PAGE_BYTES).fill((byte) (i * 31 | 1));
      }
    }
  }

  private static void load(Snapshot snapshot, LocalGuest guest, Userfaultfd uffd)
      throws IOException {
    RamBlock ram = guest.table().blocks().getFirst();
    Outcome outcome = new Outcome();
    PostcopyMetrics metrics =
        new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT));
    try (SnapshotPageHandler handler = new SnapshotPageHandler(snapshot, PageSize.SIZE_4K);
        UffdFaultSource faults = new UffdFaultSource(uffd, guest.table(), guest.baseAddresses());
        UffdPagePlacer placer =
            new UffdPagePlacer(uffd, guest.table(), guest.baseAddresses(), faults)) {
      FaultOrder faultOrder = FaultOrder.of(guest.table(), guest.table().totalBytes());
      PostcopyEngine engine =
          new PostcopyEngine(guest.table(), handler, placer, outcome, metrics, faultOrder);
      for (int i = 0; i < DIRECT_FAULTS; i++) {
        engine.fault(ram, ram.firstPageIndex() + i, 1, System.nanoTime());
      }
      try (FaultThread thread = new FaultThread(faults, engine, "self-test-faults");
          EagerLoader loader =
              new EagerLoader(engine, 1, PAGE_BYTES, "self-test-eager", prefetchOrder(ram))) {
        thread.start();
        // One after the other, and page by page, so that both are done often enough.
        join(Thread.ofPlatform().name("self-test-toucher").daemon().start(() -> touch(guest, ram)));
        loader.start();
        outcome.await();
      }
      WorkingSetSession.rehearse(snapshot, guest.table(), faultOrder.pageIndices());
    }
  }

  /** Every third page of some that nobody has touched yet. */
  private static long[] prefetchOrder(RamBlock ram) {
    return LongStream.range(0, PREFETCHED_PAGES)
        .map(i -> ram.firstPageIndex() + DIRECT_FAULTS + 3 * i)
        .toArray();
  }

  /** Faults one page after the other in a plain downcall, as only native code may. */
  private static void touch(LocalGuest guest, RamBlock ram) {
    MemoryMapping memory = guest.memoryOf(ram);
    for (int i = 0; i < REAL_FAULTS; i++) {
      int _ = memory.populateRead((PAGES - 1 - i) * PAGE_BYTES, PAGE_BYTES);
    }
  }

  private static void compare(MemoryMapping expected, MemoryMapping memory) throws IOException {
    if (!GuestMemoryAccess.equal(memory.address(), expected.address(), PAGES * PAGE_BYTES)) {
      throw new IOException(
          "self-test: pages placed through userfaultfd differ from the file they came from");
    }
  }

  private static void join(Thread thread) throws IOException {
    try {
      thread.join(TimeUnit.SECONDS.toMillis(DEADLINE_SECONDS));
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    if (thread.isAlive()) {
      throw new IOException(
          "self-test: a fault was not resolved within " + DEADLINE_SECONDS + " s");
    }
  }

  private static final class Outcome implements EngineListener {
    private final CountDownLatch ended = new CountDownLatch(1);
    private final AtomicReference<@Nullable String> failure = new AtomicReference<>();

    @Override
    public void allPagesReceived() {
      ended.countDown();
    }

    @Override
    public void loadFailed(String reason) {
      failure.set(reason);
      ended.countDown();
    }

    void await() throws IOException {
      boolean inTime = false;
      try {
        inTime = ended.await(DEADLINE_SECONDS, TimeUnit.SECONDS);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      String reason = failure.get();
      if (reason != null || !inTime) {
        throw new IOException(
            "self-test: "
                + (reason != null
                    ? reason
                    : "not all pages arrived within " + DEADLINE_SECONDS + " s"));
      }
    }
  }
}
