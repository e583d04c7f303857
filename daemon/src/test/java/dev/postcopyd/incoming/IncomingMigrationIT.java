package dev.postcopyd.incoming;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.lab.ReservedHugePages;
import dev.postcopyd.loader.Load;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.loader.LoaderState;
import dev.postcopyd.loader.Transition;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.mappedram.SnapshotPageHandler;
import dev.postcopyd.workingset.WorkingSetChoice;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Whole loads over real userfaultfds; after each the memory is compared with the file. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class IncomingMigrationIT {
  @TempDir Path directory;

  private final PostcopyMetrics metrics =
      new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT));
  private final Loader loader = new Loader();
  private final List<LoadStatus> statuses = new CopyOnWriteArrayList<>();
  private int descriptorsBefore;

  @BeforeEach
  void listen() throws IOException {
    FaultPathSelfTest.run(); // links and loads whatever opens descriptors once
    descriptorsBefore = openDescriptors();
    loader.addListener((_, after) -> statuses.add(after.status()));
  }

  @AfterEach
  void nothingLeaks() throws Exception {
    loader.close();
    assertThat(openDescriptors()).isEqualTo(descriptorsBefore);
    assertThat(Files.readString(Path.of("/proc/self/maps"))).doesNotContain(directory.toString());
  }

  private static int openDescriptors() throws IOException {
    try (var entries = Files.list(Path.of("/proc/self/fd"))) {
      return (int) entries.count();
    }
  }

  @Test
  void theSelfTestPassesHere() throws IOException {
    FaultPathSelfTest.run();
  }

  @Test
  void aLazyLoadGoesThroughItsStatesAndBringsInEveryByte() throws Exception {
    Path file = memoryFile(16 << 20);
    IncomingMigration load = start(Load.Mode.LAZY, file, MemoryLayout.BASE_PAGES);
    awaitStatus(LoadStatus.COMPLETED);
    assertThat(statuses)
        .containsExactly(
            LoadStatus.SETUP,
            LoadStatus.POSTCOPY_DEVICE,
            LoadStatus.POSTCOPY_ACTIVE,
            LoadStatus.COMPLETED);
    assertSameBytes(load, file);
  }

  @Test
  void aPlainLoadNeedsNoUserfaultfd() throws Exception {
    Path file = memoryFile(16 << 20);
    IncomingMigration load = start(Load.Mode.PLAIN, file, MemoryLayout.BASE_PAGES);
    awaitStatus(LoadStatus.COMPLETED);
    assertThat(statuses).containsExactly(LoadStatus.SETUP, LoadStatus.ACTIVE, LoadStatus.COMPLETED);
    assertSameBytes(load, file);
  }

  /** Faults from several threads while the loader runs, under continuous garbage collection. */
  @Test
  void faultsAreServedBesideTheLoaderUnderGarbageCollection() throws Exception {
    Path file = memoryFile(128 << 20);
    for (int round = 0; round < 3; round++) {
      CountDownLatch mayLoad = new CountDownLatch(1);
      AtomicBoolean collecting = new AtomicBoolean(true);
      Thread collector =
          Thread.ofPlatform()
              .start(() -> {
                while (collecting.get()) {
                  System.gc();
                }
              });
      IncomingMigration load = start(Load.Mode.LAZY, file, MemoryLayout.BASE_PAGES, mayLoad);
      awaitGuest(load);
      List<Thread> touchers = new ArrayList<>();
      for (int i = 0; i < 4; i++) {
        touchers.add(touchAll(load, i));
      }
      mayLoad.countDown();
      for (Thread toucher : touchers) {
        toucher.join();
      }
      awaitStatus(LoadStatus.COMPLETED);
      collecting.set(false);
      collector.join();
      assertSameBytes(load, file);
      PostcopyEngine engine = load.engine().orElseThrow();
      assertThat(engine.progress().faults()).isPositive();
      assertThat(engine.blocktime().faults()).isPositive();
      assertThat(engine.blocktime().threads()).as("faults carry their thread").hasSizeBetween(1, 4);
    }
  }

  /** The engine is told of a third kind of handler in one place, and of nothing else. */
  @Test
  void aHandlerThatDeliversLaterFromAThreadOfItsOwnIsPluggedIn() throws Exception {
    Path file = memoryFile(16 << 20);
    IncomingMigration load =
        start(Load.Mode.LAZY, file, MemoryLayout.BASE_PAGES, (_, _) -> new GeneratedPageHandler());
    awaitGuest(load);
    Thread toucher = touchAll(load, 1);
    awaitStatus(LoadStatus.COMPLETED);
    toucher.join();
    LocalGuest guest = load.guest().orElseThrow();
    MemoryMapping memory = guest.memoryOf(guest.table().blocks().getFirst());
    try (MemoryMapping expected = MemoryMapping.anonymous(memory.lengthBytes())) {
      for (long page = 0; page < memory.lengthBytes() / 4096; page++) {
        expected.asSegment().asSlice(page * 4096, 4096).fill(GeneratedPageHandler.contentOf(page));
      }
      assertThat(
              GuestMemoryAccess.equal(memory.address(), expected.address(), memory.lengthBytes()))
          .isTrue();
    }
  }

  @Test
  void hugePagesAreLoadedWhole() throws Exception {
    Path file = memoryFile(16 << 20);
    try (ReservedHugePages _ = ReservedHugePages.of2M(8)) {
      IncomingMigration load =
          start(
              Load.Mode.LAZY,
              file,
              new MemoryLayout(PageSize.SIZE_4K, Map.of("ram", PageSize.SIZE_2M)));
      awaitStatus(LoadStatus.COMPLETED);
      assertThat(load.engine().orElseThrow().table().totalPages()).isEqualTo(8);
      assertSameBytes(load, file);
      loader.close();
    }
  }

  @Test
  void tooFewHugePagesFailTheLoadWithTheRemedy() throws Exception {
    Path file = memoryFile(1 << 30);
    IncomingMigration _ = start(Load.Mode.LAZY, file, new MemoryLayout(PageSize.SIZE_2M, Map.of()));
    awaitStatus(LoadStatus.FAILED);
    assertThat(((LoaderState.Failed) loader.state()).reason())
        .contains("no memory for block ram")
        .contains("hugepages-2048kB");
  }

  @Test
  void aFileThatShrinksWhileItIsLoadedFailsTheLoadAndTheNextLoadWorks() throws Exception {
    Path file = memoryFile(64 << 20);
    CountDownLatch mayLoad = new CountDownLatch(1);
    IncomingMigration load = start(Load.Mode.LAZY, file, MemoryLayout.BASE_PAGES, mayLoad);
    awaitGuest(load);
    LocalGuest guest = load.guest().orElseThrow();
    RamBlock ram = guest.table().blocks().getFirst();
    MemoryMapping memory = guest.memoryOf(ram);
    try (NativeFile writable = NativeFile.open(file, NativeFile.Mode.READ_WRITE_CREATE)) {
      writable.truncate(32 << 20);
    }
    AtomicInteger answer = new AtomicInteger();
    Thread waiting =
        Thread.ofPlatform().start(() -> answer.set(memory.populateRead(48 << 20, 4096)));
    TimeUnit.MILLISECONDS.sleep(20);
    mayLoad.countDown();
    waiting.join();
    assertThat(answer.get())
        .as("whoever waited is told that the memory is gone, and sees no zeros")
        .isNotZero();
    awaitStatus(LoadStatus.FAILED);
    assertThat(((LoaderState.Failed) loader.state()).reason())
        .contains("a page of block ram can't be read")
        .contains(file.toString())
        .contains("ends early");
    Path good = memoryFile(8 << 20);
    IncomingMigration next = start(Load.Mode.LAZY, good, MemoryLayout.BASE_PAGES);
    awaitStatus(LoadStatus.COMPLETED);
    assertSameBytes(next, good);
  }

  @Test
  void aCancelledLoadReleasesEverything() throws Exception {
    Path file = memoryFile(64 << 20);
    CountDownLatch mayLoad = new CountDownLatch(1);
    IncomingMigration load = start(Load.Mode.LAZY, file, MemoryLayout.BASE_PAGES, mayLoad);
    awaitGuest(load);
    Transition _ = loader.submit(new LoaderEvent.CancelRequested()).get();
    mayLoad.countDown();
    awaitStatus(LoadStatus.CANCELLED);
    assertThat(load.guest()).isEmpty();
  }

  @Test
  void aFileThatIsNotThereFailsTheLoadBeforeTheAnswer() throws Exception {
    Path file = directory.resolve("missing");
    IncomingMigration load = start(Load.Mode.LAZY, file, MemoryLayout.BASE_PAGES);
    assertThat(load.opened()).failsWithin(java.time.Duration.ofSeconds(5));
    assertThat(loader.state())
        .isInstanceOfSatisfying(
            LoaderState.Failed.class,
            failed -> assertThat(failed.reason()).contains(file.toString()).contains("ENOENT"));
  }

  private IncomingMigration start(Load.Mode mode, Path file, MemoryLayout layout) throws Exception {
    return start(mode, file, layout, new CountDownLatch(0));
  }

  /**
   * Starts a load whose eager reads wait for {@code mayLoad}: a handler of the test's own, plugged
   * in.
   */
  private IncomingMigration start(
      Load.Mode mode, Path file, MemoryLayout layout, CountDownLatch mayLoad) throws Exception {
    PageHandlerFactory handlers =
        (snapshot, table) -> {
          PostcopyPageHandler pages = new SnapshotPageHandler(snapshot, PageSize.SIZE_2M);
          return new WaitingPageHandler(pages, mayLoad);
        };
    return start(mode, file, layout, handlers);
  }

  private IncomingMigration start(
      Load.Mode mode, Path file, MemoryLayout layout, PageHandlerFactory handlers)
      throws Exception {
    IncomingContext context =
        new IncomingContext(loader, metrics, layout, handlers, () -> {}, 2, WorkingSetChoice.OFF);
    IncomingMigration load =
        new IncomingMigration(mode, "file:" + file, new SnapshotLocation.AtPath(file, 0), context);
    assertThat(loader.submit(new LoaderEvent.LoadRequested(load)).get())
        .isInstanceOf(Transition.To.class);
    return load;
  }

  private static Thread touchAll(IncomingMigration load, int seed) {
    LocalGuest guest = load.guest().orElseThrow();
    MemoryMapping memory = guest.memoryOf(guest.table().blocks().getFirst());
    int pages = (int) (memory.lengthBytes() / 4096);
    return Thread.ofPlatform()
        .start(() -> {
          Random random = new Random(seed);
          for (int i = 0; i < pages / 2; i++) {
            int _ = memory.populateRead(random.nextInt(pages) * 4096L, 4096);
          }
        });
  }

  private static void awaitGuest(IncomingMigration load) throws InterruptedException {
    while (load.engine().isEmpty()) {
      TimeUnit.MILLISECONDS.sleep(1);
    }
  }

  private void awaitStatus(LoadStatus status) throws InterruptedException {
    // The listener is told last: when it has heard of the status, the state has it too.
    while (statuses.isEmpty() || statuses.getLast() != status) {
      LoaderState state = loader.state();
      if (state instanceof LoaderState.Ended
          && state.status() != status
          && statuses.getLast() == state.status()) {
        throw new AssertionError("ended as " + state);
      }
      TimeUnit.MILLISECONDS.sleep(1);
    }
  }

  private static void assertSameBytes(IncomingMigration load, Path path) throws IOException {
    LocalGuest guest = load.guest().orElseThrow();
    MemoryMapping memory = guest.memoryOf(guest.table().blocks().getFirst());
    try (NativeFile file = NativeFile.open(path, NativeFile.Mode.READ);
        MemoryMapping expected = file.map(0, file.sizeBytes())) {
      assertThat(memory.lengthBytes()).isEqualTo(expected.lengthBytes());
      assertThat(
              GuestMemoryAccess.equal(memory.address(), expected.address(), memory.lengthBytes()))
          .isTrue();
    }
  }

  private Path memoryFile(int bytes) throws IOException {
    Path file = directory.resolve("memory-" + bytes);
    try (NativeFile out = NativeFile.open(file, NativeFile.Mode.WRITE_CREATE_TRUNCATE)) {
      byte[] chunk = new byte[1 << 20];
      Random random = new Random(bytes);
      for (int offset = 0; offset < bytes; offset += chunk.length) {
        random.nextBytes(chunk);
        out.writeBytesAt(chunk, offset);
      }
    }
    return file;
  }
}
