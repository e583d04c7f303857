package dev.postcopyd.incoming;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.EagerLoader;
import dev.postcopyd.postcopy.EngineListener;
import dev.postcopyd.postcopy.FaultThread;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.mappedram.SnapshotPageHandler;
import dev.postcopyd.postcopy.uffd.UffdFaultSource;
import dev.postcopyd.postcopy.uffd.UffdPagePlacer;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.uffd.Userfaultfd;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
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
  private static final int REAL_FAULTS = 256;
  private static final int DIRECT_FAULTS = 1024;
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
    for (int round = 0; round < ROUNDS; round++) {
      runOnce();
    }
  }

  private static void runOnce() throws IOException {
    NativeFile file = NativeFile.memfd("postcopyd-self-test");
    fill(file);
    try (Snapshot snapshot = SnapshotOpener.open(file, 0)) {
      RamBlockTable table = MemoryLayout.BASE_PAGES.layOut(snapshot);
      try (LocalGuest guest = LocalGuest.allocate(table)) {
        Userfaultfd uffd = Userfaultfd.open(UffdFaultSource.OWN_MEMORY_OPTIONS);
        guest.arm(uffd);
        load(snapshot, guest, uffd);
        guest.disarm();
        compare(file, guest.memoryOf(table.blocks().getFirst()));
      }
    }
  }

  private static void fill(NativeFile file) throws IOException {
    byte[] page = new byte[4096];
    for (int i = 0; i < PAGES; i++) {
      java.util.Arrays.fill(page, (byte) (i * 31 + 1));
      file.writeBytesAt(page, i * 4096L);
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
      PostcopyEngine engine = new PostcopyEngine(guest.table(), handler, placer, outcome, metrics);
      for (int i = 0; i < DIRECT_FAULTS; i++) {
        engine.fault(ram, ram.firstPageIndex() + i, 1, System.nanoTime());
      }
      try (FaultThread thread = new FaultThread(faults, engine, "self-test-faults");
          EagerLoader loader = new EagerLoader(engine, 1, "self-test-eager")) {
        thread.start();
        Thread toucher =
            Thread.ofPlatform().name("self-test-toucher").daemon().start(() -> touch(guest, ram));
        loader.start();
        outcome.await();
        join(toucher);
      }
    }
  }

  /** Faults one page after the other in a plain downcall, as only native code may. */
  private static void touch(LocalGuest guest, RamBlock ram) {
    MemoryMapping memory = guest.memoryOf(ram);
    for (int i = 0; i < REAL_FAULTS; i++) {
      int _ = memory.populateRead((PAGES - 1 - i) * 4096L, 4096);
    }
  }

  private static void compare(NativeFile file, MemoryMapping memory) throws IOException {
    try (MemoryMapping expected = file.map(0, PAGES * 4096L)) {
      if (!GuestMemoryAccess.equal(memory.address(), expected.address(), PAGES * 4096L)) {
        throw new IOException(
            "self-test: pages placed through userfaultfd differ from the file they came from");
      }
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
