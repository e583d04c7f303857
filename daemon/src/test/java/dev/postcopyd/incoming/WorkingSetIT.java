package dev.postcopyd.incoming;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.loader.Load;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.loader.LoaderState;
import dev.postcopyd.loader.Transition;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.PageSink;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.postcopy.mappedram.SnapshotPageHandler;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.workingset.WorkingSetChoice;
import dev.postcopyd.workingset.WorkingSetReport;
import dev.postcopyd.workingset.WorkingSetSession;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.LoggerFactory;

/** Loads over a real userfaultfd that record what is touched, and loads that bring it in first. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class WorkingSetIT {
  private static final int PAGES = 4096;

  /** The loader's first runs are on their way when the guest begins: keep off them. */
  private static final int FIRST_TOUCHED = 1024;

  @TempDir Path directory;

  private final PrometheusMeterRegistry registry =
      new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  private final PostcopyMetrics metrics = new PostcopyMetrics(registry);
  private final ListAppender<ILoggingEvent> warnings = new ListAppender<>();
  private Path snapshot = Path.of("");
  private Path workingSet = Path.of("");

  @BeforeEach
  void writeSnapshot() throws IOException {
    snapshot = directory.resolve("memory");
    workingSet = directory.resolve("memory.ws");
    writeMemory(PAGES);
    warnings.start();
    log().addAppender(warnings);
  }

  @AfterEach
  void removeAppender() {
    log().detachAppender(warnings);
  }

  private static Logger log() {
    return (Logger) LoggerFactory.getLogger(WorkingSetSession.class);
  }

  private void writeMemory(int pages) throws IOException {
    byte[] bytes = new byte[pages * 4096];
    new Random(pages).nextBytes(bytes);
    Files.write(snapshot, bytes);
  }

  private List<String> warned() {
    return warnings.list.stream()
        .filter(event -> event.getLevel().isGreaterOrEqual(Level.WARN))
        .map(ILoggingEvent::getFormattedMessage)
        .toList();
  }

  /**
   * One resume, with the pages that its working set lists. Its loader brings these in at once, and
   * the rest when it may: so that it is known which pages the guest waits for.
   */
  private final class Resume implements AutoCloseable {
    final Loader loader = new Loader();
    final List<Long> prefetchedPages = Collections.synchronizedList(new ArrayList<>());
    final CountDownLatch loaderIsHeld = new CountDownLatch(1);
    final CountDownLatch mayLoadRest = new CountDownLatch(1);
    final Set<Long> listed;
    final IncomingMigration load;

    Resume(Set<Long> listed) throws Exception {
      this(listed, WorkingSetChoice.BESIDE);
    }

    Resume(Set<Long> listed, WorkingSetChoice choice) throws Exception {
      this.listed = listed;
      IncomingContext context =
          new IncomingContext(
              loader,
              metrics,
              MemoryLayout.BASE_PAGES,
              (opened, _) -> handler(opened),
              () -> {},
              1,
              choice);
      load =
          new IncomingMigration(
              Load.Mode.LAZY,
              "file:" + snapshot,
              new SnapshotLocation.AtPath(snapshot, 0),
              context);
      assertThat(loader.submit(new LoaderEvent.LoadRequested(load)).get())
          .isInstanceOf(Transition.To.class);
      while (load.engine().isEmpty()) {
        TimeUnit.MILLISECONDS.sleep(1);
      }
    }

    private PostcopyPageHandler handler(Snapshot opened) {
      SnapshotPageHandler pages = new SnapshotPageHandler(opened, PageSize.SIZE_4K);
      return new PostcopyPageHandler() {
        @Override
        public void fetch(RamBlock block, long first, int count, Urgency urgency, PageSink sink) {
          if (urgency == Urgency.EAGER) {
            loaderIsHeld.countDown();
            awaitUninterruptibly(mayLoadRest);
          } else if (urgency == Urgency.PREFETCH) {
            LongStream.range(first, first + count).forEach(prefetchedPages::add);
          }
          pages.fetch(block, first, count, urgency, sink);
        }

        @Override
        public void close() {
          pages.close();
        }
      };
    }

    PostcopyEngine engine() {
      return load.engine().orElseThrow();
    }

    /**
     * Not before the loader holds its run of the rest: it would follow the fault, and hold that.
     */
    void touch(long... pages) {
      if (!Arrays.stream(pages).allMatch(listed::contains)) {
        awaitUninterruptibly(loaderIsHeld);
      }
      LocalGuest guest = load.guest().orElseThrow();
      MemoryMapping memory = guest.memoryOf(guest.table().blocks().getFirst());
      for (long page : pages) {
        assertThat(memory.populateRead(page * 4096, 4096)).isZero();
      }
    }

    void awaitPrefetched(int pages) throws InterruptedException {
      while (engine().progress().prefetchedPages() < pages
          || engine().progress().dataBytes() < pages * 4096L) {
        TimeUnit.MILLISECONDS.sleep(1);
      }
    }

    void complete() throws Exception {
      mayLoadRest.countDown();
      while (loader.state().status() != LoadStatus.COMPLETED) {
        assertThat(loader.state()).isNotInstanceOf(LoaderState.Failed.class);
        TimeUnit.MILLISECONDS.sleep(1);
      }
      LocalGuest guest = load.guest().orElseThrow();
      MemoryMapping memory = guest.memoryOf(guest.table().blocks().getFirst());
      try (NativeFile file = NativeFile.open(snapshot, NativeFile.Mode.READ);
          MemoryMapping expected = file.map(0, file.sizeBytes())) {
        assertThat(GuestMemoryAccess.equal(memory.address(), expected.address(), file.sizeBytes()))
            .isTrue();
      }
    }

    /** The file is written on the thread of the load's steps, whose end this waits for. */
    @Override
    public void close() {
      mayLoadRest.countDown();
      loader.close();
    }
  }

  private static void awaitUninterruptibly(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /** Scattered pages, no two of them neighbours, so that each makes a run. */
  private static long[] scattered(int count, int seed) {
    List<Long> pages =
        LongStream.range(0, (PAGES - FIRST_TOUCHED) / 2)
            .mapToObj(i -> FIRST_TOUCHED + 2 * i)
            .collect(Collectors.toCollection(ArrayList::new));
    Collections.shuffle(pages, new Random(seed));
    return pages.stream().limit(count).mapToLong(page -> page).toArray();
  }

  private static Set<Long> setOf(long... pages) {
    return Arrays.stream(pages).boxed().collect(Collectors.toSet());
  }

  /** What the next resume would bring in first. */
  private long[] recorded() throws IOException {
    RamBlockTable.Builder table = RamBlockTable.builder();
    table.add("ram", Files.size(snapshot), PageSize.SIZE_4K);
    try (Snapshot opened =
        SnapshotOpener.open(NativeFile.open(snapshot, NativeFile.Mode.READ), 0)) {
      return WorkingSetSession.open(WorkingSetChoice.BESIDE, Optional.of(snapshot), opened)
          .prefetchOrder(table.build());
    }
  }

  @Test
  void theFirstResumeRecordsAndTheSecondBringsItInFirst() throws Exception {
    long[] touched = scattered(300, 1);
    try (Resume first = new Resume(Set.of())) {
      first.touch(touched);
      assertThat(first.engine().progress().faults()).isEqualTo(300);
      assertThat(first.engine().progress().prefetchedPages()).isZero();
      first.complete();
    }
    assertThat(recorded()).as("in access order").containsExactly(touched);
    assertThat(registry.scrape()).contains("postcopyd_working_set_pages 300.0");

    long[] more = {FIRST_TOUCHED + 1, FIRST_TOUCHED + 5};
    try (Resume second = new Resume(setOf(touched))) {
      second.awaitPrefetched(300);
      assertThat(second.prefetchedPages)
          .containsExactlyElementsOf(Arrays.stream(touched).boxed().toList());
      second.touch(touched);
      assertThat(second.engine().progress().faults()).as("nobody waits for them").isZero();
      second.touch(more);
      assertThat(second.engine().progress().faults()).isEqualTo(2);
      second.complete();
    }
    assertThat(recorded())
        .containsExactly(LongStream.concat(Arrays.stream(touched), Arrays.stream(more)).toArray());
    WorkingSetReport report = WorkingSetReport.of(workingSet);
    assertThat(report.recordings()).isEqualTo(2);
    assertThat(report.corePages()).isEqualTo(300);
    assertThat(report.sizeBytes()).as("small").isLessThan(1500);
    assertThat(warned()).isEmpty();
    assertThat(registry.scrape()).contains("postcopyd_pages_prefetched_total 300.0");
    try (Stream<Path> files = Files.list(directory)) {
      assertThat(files).containsExactlyInAnyOrder(snapshot, workingSet);
    }
  }

  /**
   * A guest that runs from the first moment, with the loader at work: a race, and nothing breaks.
   */
  @Test
  void faultsRaceWithThePrefetch() throws Exception {
    long[] touched = scattered(1000, 2);
    try (Resume first = new Resume(Set.of())) {
      first.touch(touched);
      first.complete();
    }
    for (int round = 0; round < 5; round++) {
      try (Resume next = new Resume(setOf(touched))) {
        next.touch(touched);
        next.complete();
      }
      long[] order = recorded();
      assertThat(order).as("nothing lost, nothing new").hasSize(1000);
      assertThat(order).containsExactly(touched);
    }
  }

  @Test
  void aResumeInWhichNobodyFaultsLeavesTheFileAlone() throws Exception {
    try (Resume first = new Resume(Set.of())) {
      first.complete();
    }
    assertThat(workingSet).doesNotExist();
    try (Resume second = new Resume(Set.of())) {
      second.touch(2000);
      second.complete();
    }
    byte[] before = Files.readAllBytes(workingSet);
    try (Resume third = new Resume(setOf(2000))) {
      third.complete();
    }
    assertThat(Files.readAllBytes(workingSet)).containsExactly(before);
  }

  @Test
  void aDamagedFileIsWarnedOfAndReplaced() throws Exception {
    try (Resume first = new Resume(Set.of())) {
      first.touch(2000, 3000);
      first.complete();
    }
    byte[] file = Files.readAllBytes(workingSet);
    file[file.length / 2] ^= 0x10;
    Files.write(workingSet, file);
    try (Resume second = new Resume(Set.of())) {
      assertThat(second.engine().progress().prefetchedPages()).isZero();
      second.touch(2500);
      second.complete();
    }
    assertThat(warned())
        .singleElement()
        .asString()
        .startsWith("working set ignored file=" + workingSet + " reason=\"it is damaged: checksum");
    assertThat(recorded()).containsExactly(2500);
  }

  @Test
  void aWorkingSetOfAnotherSnapshotIsWarnedOfAndReplaced() throws Exception {
    try (Resume first = new Resume(Set.of())) {
      first.touch(2000, 3000);
      first.complete();
    }
    writeMemory(PAGES + 64);
    try (Resume second = new Resume(Set.of())) {
      assertThat(second.engine().progress().prefetchedPages()).isZero();
      second.touch(2500);
      second.complete();
    }
    assertThat(warned())
        .singleElement()
        .asString()
        .contains("it is that of another snapshot: RAM block 0 is 'ram' of 16777216 bytes")
        .contains("not 'ram' of 17039360 bytes");
    assertThat(recorded()).containsExactly(2500);
  }

  @Test
  void whatIsNotAWorkingSetIsNeverOverwritten() throws Exception {
    Path diary = directory.resolve("diary");
    Files.writeString(diary, "dear diary");
    try (Resume first = new Resume(Set.of(), new WorkingSetChoice.At(diary))) {
      first.touch(2000);
      first.complete();
    }
    assertThat(diary).hasContent("dear diary");
    assertThat(warned()).hasSize(2).allMatch(line -> line.contains("it is not a working set"));
  }

  @Test
  void aFileThatCannotBeWrittenFailsNothing() throws Exception {
    Path missing = directory.resolve("missing/x.ws");
    try (Resume first = new Resume(Set.of(), new WorkingSetChoice.At(missing))) {
      first.touch(2000);
      first.complete();
    }
    assertThat(missing).doesNotExist();
  }

  @Test
  void offReadsAndWritesNothing() throws Exception {
    try (Resume first = new Resume(Set.of(), WorkingSetChoice.OFF)) {
      first.touch(2000);
      first.complete();
    }
    assertThat(workingSet).doesNotExist();
  }

  @Test
  void aLoadThatFailsUnderItsGuestKeepsWhatItSaw() throws Exception {
    try (Resume first = new Resume(Set.of())) {
      first.touch(2000, 1500);
      Transition _ = first.loader.submit(new LoaderEvent.CancelRequested()).get();
      first.mayLoadRest.countDown();
      while (first.loader.state().status() != LoadStatus.CANCELLED) {
        TimeUnit.MILLISECONDS.sleep(1);
      }
    }
    assertThat(recorded()).containsExactly(2000, 1500);
  }
}
