package dev.postcopyd.incoming;

import dev.postcopyd.handover.DescriptorKeeper;
import dev.postcopyd.handover.GuestMapping;
import dev.postcopyd.handover.HandedOver;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.outgoing.background.Incremental;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.MemorySegmentKinds;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.postcopy.mappedram.SnapshotPageHandler;
import dev.postcopyd.uffd.RegisterMode;
import dev.postcopyd.uffd.UffdException;
import dev.postcopyd.uffd.UffdFeature;
import dev.postcopyd.uffd.UffdOptions;
import dev.postcopyd.uffd.Userfaultfd;
import dev.postcopyd.workingset.WorkingSetChoice;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.util.EnumSet;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * The daemon hands memory of its own over to itself, so that the first guest meets code that has
 * run: the way of {@link FaultPathSelfTest} for guests of a socket, without the socket.
 *
 * <p>A userfaultfd for faults of user mode is enough, which any process may have; where even that
 * is refused (a seccomp profile), guests are served all the same, the first one a little slower,
 * and nothing is said.
 */
public final class HandedOverSelfTest {
  private static final int PAGES = 2048;
  private static final long PAGE_BYTES = 4096;
  private static final int REAL_FAULTS = 1024;
  private static final int ROUNDS = 2;
  private static final long DEADLINE_SECONDS = 5;

  private HandedOverSelfTest() {}

  /**
   * Runs the test.
   *
   * @throws IOException if a page does not arrive, or is not what it should be
   */
  public static void run() throws IOException {
    MemorySegmentKinds.load();
    for (int round = 0; round < ROUNDS; round++) {
      try (MemoryMapping contents = MemoryMapping.anonymous(PAGES * PAGE_BYTES);
          MemoryMapping memory = MemoryMapping.anonymous(PAGES * PAGE_BYTES)) {
        FaultPathSelfTest.fill(contents.asSegment());
        Userfaultfd uffd;
        try {
          uffd =
              Userfaultfd.open(
                  UffdOptions.defaults()
                      .forUserModeOnly()
                      .wanting(
                          UffdFeature.THREAD_ID,
                          UffdFeature.EVENT_REMOVE,
                          UffdFeature.EVENT_UNMAP));
        } catch (UffdException e) {
          return;
        }
        uffd.register(memory.address(), memory.lengthBytes(), EnumSet.of(RegisterMode.MISSING));
        load(contents, memory, uffd);
      }
    }
  }

  private static void load(MemoryMapping contents, MemoryMapping memory, Userfaultfd uffd)
      throws IOException {
    int[] connection = UnixSocket.socketPair();
    CountDownLatch completed = new CountDownLatch(1);
    HandedOverContext context =
        new HandedOverContext(
            new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT)),
            (snapshot, _) -> new SnapshotPageHandler(snapshot, PageSize.SIZE_4K),
            () -> {},
            1,
            WorkingSetChoice.OFF,
            DescriptorKeeper.NONE,
            HandedOverOptions.DEFAULT,
            Incremental.OFF);
    try (HandedOverGuests guests =
        new HandedOverGuests(
            context,
            1,
            status -> {
              if (status == LoadStatus.COMPLETED || status == LoadStatus.FAILED) {
                completed.countDown();
              }
            })) {
      guests.handedOver(
          new HandedOver(
              connection[0],
              new PeerCredentials(0, 0, 0),
              List.of(
                  new GuestMapping(
                      memory.address(),
                      memory.lengthBytes(),
                      0,
                      PageSize.SIZE_4K,
                      Optional.empty())),
              uffd.fd(),
              List.of()));
      Thread toucher =
          Thread.ofPlatform().name("self-test-toucher").daemon().start(() -> touch(memory));
      guests.serve(
          new SnapshotLocation.Descriptor(SelfTestSnapshot.write(contents), 0), "self-test");
      await(toucher, completed);
      if (memory.dontNeed(0, PAGE_BYTES) != 0
          || !GuestMemoryAccess.isZero(memory.address(), PAGE_BYTES)) {
        throw new IOException("self-test: a page that was given back is not zero");
      }
      if (!GuestMemoryAccess.equal(
          memory.address() + PAGE_BYTES,
          contents.address() + PAGE_BYTES,
          (PAGES - 1) * PAGE_BYTES)) {
        throw new IOException("self-test: pages of a guest differ from the file they came from");
      }
    } finally {
      FileDescriptors.close(connection[1]);
    }
  }

  private static void await(Thread toucher, CountDownLatch completed) throws IOException {
    try {
      toucher.join(TimeUnit.SECONDS.toMillis(DEADLINE_SECONDS));
      if (!toucher.isAlive() && completed.await(DEADLINE_SECONDS, TimeUnit.SECONDS)) {
        return;
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    throw new IOException("self-test: not all pages arrived within " + DEADLINE_SECONDS + " s");
  }

  /** Touches one page after the other in a plain downcall, and gives some back before. */
  private static void touch(MemoryMapping memory) {
    for (int i = 0; i < REAL_FAULTS; i++) {
      long offset = (PAGES - 1 - i) * PAGE_BYTES;
      boolean _ = GuestMemoryAccess.isZero(memory.address() + offset, 1);
    }
  }
}
