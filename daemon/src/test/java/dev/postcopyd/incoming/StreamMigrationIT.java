package dev.postcopyd.incoming;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.guest.PostcopyDestination;
import dev.postcopyd.guest.StreamAddress;
import dev.postcopyd.guest.StreamDestination;
import dev.postcopyd.loader.LoadStatus;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderEvent;
import dev.postcopyd.loader.LoaderState;
import dev.postcopyd.loader.Transition;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.postcopy.mappedram.SnapshotPageHandler;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.testdata.GoldenSnapshot;
import dev.postcopyd.workingset.WorkingSetChoice;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Whole loads over real sockets, from snapshots that QEMU made, into a destination that checks the
 * stream; after each its memory is compared with the file.
 */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class StreamMigrationIT {
  @TempDir Path directory;

  private final PostcopyMetrics metrics =
      new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT));
  private final Loader loader = new Loader();
  private final List<LoadStatus> statuses = new CopyOnWriteArrayList<>();
  private final AtomicInteger traces = new AtomicInteger();
  private CountDownLatch mayLoad = new CountDownLatch(0);
  private Path socket;
  private int descriptorsBefore;
  private volatile boolean heapIsFull;
  private Optional<LoadTrace.Trace> begun = Optional.empty();

  @BeforeEach
  void listen() throws IOException {
    socket = directory.resolve("m");
    // Whatever opens descriptors once, here or in the JVM, does so now.
    FaultPathSelfTest.run();
    try (FakeQemu _ = new FakeQemu(directory.resolve("warm"), Map.of())) {
      FileDescriptors.close(UnixSocket.connect(directory.resolve("warm")));
    }
    descriptorsBefore = openDescriptors();
    loader.addListener((_, after) -> statuses.add(after.status()));
  }

  @AfterEach
  void nothingLeaks() throws Exception {
    loader.close();
    assertThat(openDescriptors()).isEqualTo(descriptorsBefore);
    assertThat(Files.readString(Path.of("/proc/self/maps"))).doesNotContain(".mr");
  }

  private static int openDescriptors() throws IOException {
    try (var entries = Files.list(Path.of("/proc/self/fd"))) {
      return (int) entries.count();
    }
  }

  static List<String> cases() throws IOException {
    return GoldenSnapshot.loadableCases().toList();
  }

  @ParameterizedTest
  @MethodSource("cases")
  void everyByteArrivesOnce(String name) throws Exception {
    Path file = GoldenSnapshot.of(name).file();
    long offset = offsetOf(name);
    try (FakeQemu qemu = new FakeQemu(socket, Map.of())) {
      StreamMigration load = start(file, offset, StreamDestination.Options.NONE);
      awaitStatus(LoadStatus.COMPLETED);
      assertThat(statuses)
          .containsExactly(
              LoadStatus.SETUP,
              LoadStatus.POSTCOPY_DEVICE,
              LoadStatus.POSTCOPY_ACTIVE,
              LoadStatus.COMPLETED);
      assertThat(qemu.machineType).isEqualTo(load.machineState().orElseThrow().machineType().get());
      assertThat(qemu.advisedPageSizes).isEqualTo(4096);
      assertThat(qemu.commands).startsWith("1", "2", "3", "6").contains("7");
      assertSameBytes(qemu, file, offset);
      assertThat(traces).hasValue(0);
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void requestsAreAnsweredWhileTheBulkWaits(boolean preempt) throws Exception {
    Path file = GoldenSnapshot.of("pc").file();
    mayLoad = new CountDownLatch(1);
    try (FakeQemu qemu = new FakeQemu(socket, Map.of())) {
      StreamMigration load = start(file, 0, preempt(preempt));
      awaitStatus(LoadStatus.POSTCOPY_ACTIVE);
      byte[] ram = qemu.memoryOf("pc.ram");
      for (int page = 0; page < 500; page++) {
        qemu.touch("pc.ram", (long) page * 7 % (ram.length / 4096) * 4096);
        qemu.touch("pc.bios", 4096L * (page % 4));
      }
      assertThat(load.engine().orElseThrow().progress().faults()).isPositive();
      mayLoad.countDown();
      awaitStatus(LoadStatus.COMPLETED);
      assertSameBytes(qemu, file, 0);
    }
  }

  /** Zero pages are not sent until somebody wants one, whenever that is. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void zeroPagesAreSentOnDemandOnly(boolean preempt) throws Exception {
    Path file = GoldenSnapshot.of("pc").file();
    try (FakeQemu qemu = new FakeQemu(socket, Map.of());
        Snapshot snapshot = open(file, 0)) {
      SnapshotBlock ram = snapshot.blocks().getFirst();
      StreamMigration load = start(file, 0, preempt(preempt));
      awaitStatus(LoadStatus.COMPLETED);
      for (long page = 0; page < ram.pageCount(); page++) {
        assertThat(qemu.receivedOf("pc.ram").get((int) page)).isEqualTo(ram.isStored(page));
      }
      assertThat(load.engine().orElseThrow().isComplete()).isTrue();
    }
  }

  @Test
  void aBlockThatTheSnapshotDoesNotHaveReadsZero() throws Exception {
    mayLoad = new CountDownLatch(1);
    try (FakeQemu qemu = new FakeQemu(socket, Map.of())) {
      StreamMigration _ = start(GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
      awaitStatus(LoadStatus.POSTCOPY_ACTIVE);
      qemu.memory.put("0000:00:05.0/e1000.rom", new byte[65536]);
      qemu.received.put("0000:00:05.0/e1000.rom", new BitSet());
      qemu.touch("0000:00:05.0/e1000.rom", 8192);
      qemu.request("0000:00:05.0/e1000.rom", 8192);
      qemu.touch("pc.ram", 4096);
      mayLoad.countDown();
      awaitStatus(LoadStatus.COMPLETED);
    }
  }

  @Test
  void hugePagesArriveWhole() throws Exception {
    Path file = GoldenSnapshot.of("pc").file();
    mayLoad = new CountDownLatch(1);
    try (FakeQemu qemu = new FakeQemu(socket, Map.of("m0", 2 << 20))) {
      StreamMigration _ =
          start(
              file,
              0,
              new StreamDestination.Options(
                  Map.of("m0", PageSize.SIZE_2M), Map.of("pc.ram", "m0"), Optional.empty()));
      awaitStatus(LoadStatus.POSTCOPY_ACTIVE);
      assertThat(qemu.advisedPageSizes).isEqualTo(0x201000);
      qemu.touch("m0", 5 << 20);
      assertThat(qemu.receivedOf("m0").get(1024, 1536).cardinality()).isEqualTo(512);
      mayLoad.countDown();
      awaitStatus(LoadStatus.COMPLETED);
      qemu.memory.put("pc.ram", qemu.memoryOf("m0"));
      assertSameBytes(qemu, file, 0);
    }
  }

  @Test
  void aDestinationThatRefusesMakesTheLoadFail() throws Exception {
    try (FakeQemu _ = new FakeQemu(socket, Map.of()).refusing()) {
      StreamMigration _ = start(GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
      assertThat(awaitFailure())
          .contains("unix:" + socket)
          .contains("has not taken the guest")
          .contains("its own log says why");
    }
  }

  @Test
  void nobodyThereIsSaidAtOnce() throws Exception {
    StreamMigration _ = start(GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
    assertThat(awaitFailure()).contains(socket.toString()).contains("ENOENT");
  }

  @Test
  void beforeTheGuestRunsALostConnectionIsTheEnd() throws Exception {
    try (FakeQemu _ = new FakeQemu(socket, Map.of()).dyingBeforeRun()) {
      StreamMigration _ = start(GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
      assertThat(awaitFailure()).contains("has to be started anew");
      assertThat(traces).hasValue(0);
    }
  }

  @Test
  void aRunningGuestIsNotCancelled() throws Exception {
    mayLoad = new CountDownLatch(1);
    try (FakeQemu _ = new FakeQemu(socket, Map.of())) {
      StreamMigration _ = start(GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
      awaitStatus(LoadStatus.POSTCOPY_ACTIVE);
      assertThat(loader.submit(new LoaderEvent.CancelRequested()).get())
          .isEqualTo(new Transition.Refused("Postcopy migration in progress, cannot cancel."));
      assertThat(traces).hasValue(1);
      mayLoad.countDown();
      awaitStatus(LoadStatus.COMPLETED);
      assertThat(traces).hasValue(0);
    }
  }

  /** Lost in the middle of a page, twice, and recovered with what is missing. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void aLostConnectionIsRecoveredTwice(boolean preempt) throws Exception {
    Path file = GoldenSnapshot.of("pc").file();
    try (FakeQemu qemu = new FakeQemu(socket, Map.of()).cuttingAfter(40)) {
      StreamMigration load = start(file, 0, preempt(preempt));
      awaitStatus(LoadStatus.POSTCOPY_PAUSED);
      qemu.cuttingAfter(80);
      loader.submit(new LoaderEvent.RecoverRequested("unix:" + socket)).get();
      awaitCount(LoadStatus.POSTCOPY_PAUSED, 2);
      loader.submit(new LoaderEvent.RecoverRequested("")).get();
      awaitStatus(LoadStatus.COMPLETED);
      assertThat(statuses)
          .containsExactly(
              LoadStatus.SETUP,
              LoadStatus.POSTCOPY_DEVICE,
              LoadStatus.POSTCOPY_ACTIVE,
              LoadStatus.POSTCOPY_PAUSED,
              LoadStatus.POSTCOPY_RECOVER_SETUP,
              LoadStatus.POSTCOPY_RECOVER,
              LoadStatus.POSTCOPY_ACTIVE,
              LoadStatus.POSTCOPY_PAUSED,
              LoadStatus.POSTCOPY_RECOVER_SETUP,
              LoadStatus.POSTCOPY_RECOVER,
              LoadStatus.POSTCOPY_ACTIVE,
              LoadStatus.COMPLETED);
      assertSameBytes(qemu, file, 0);
      assertThat(load.engine().orElseThrow().progress().dataBytes()).isEqualTo(storedBytes(file));
    }
  }

  /** QEMU needs no answer any more once everything has arrived, and does not wait for one. */
  @RepeatedTest(3)
  void whoLeavesWithQuestionsIsComplete() throws Exception {
    Path file = GoldenSnapshot.of("pc").file();
    try (FakeQemu qemu = new FakeQemu(socket, Map.of()).leavingWithQuestions()) {
      StreamMigration _ = start(file, 0, preempt(true));
      awaitStatus(LoadStatus.COMPLETED);
      assertThat(statuses).doesNotContain(LoadStatus.POSTCOPY_PAUSED);
      assertSameBytes(qemu, file, 0);
    }
  }

  @Test
  void pagesThatAreToldOfTwiceAreRefused() throws Exception {
    try (FakeQemu _ = new FakeQemu(socket, Map.of()).cuttingAfter(40).repeatingBitmaps()) {
      StreamMigration load =
          start(GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
      awaitStatus(LoadStatus.POSTCOPY_PAUSED);
      loader.submit(new LoaderEvent.RecoverRequested("unix:" + socket)).get();
      awaitCount(LoadStatus.POSTCOPY_PAUSED, 2);
      assertThat(((LoaderState.PostcopyPaused) loader.state()).reason())
          .contains("recovery failed")
          .contains("which it has asked for or told of before");
      assertThat(load.isReleased()).isFalse();
    }
  }

  @Test
  void aRecoveryThatFailsCanBeTriedAgain() throws Exception {
    Path file = GoldenSnapshot.of("pc").file();
    try (FakeQemu qemu = new FakeQemu(socket, Map.of()).cuttingAfter(40)) {
      StreamMigration _ = start(file, 0, StreamDestination.Options.NONE);
      awaitStatus(LoadStatus.POSTCOPY_PAUSED);
      loader.submit(new LoaderEvent.RecoverRequested("unix:" + socket + "-none")).get();
      awaitCount(LoadStatus.POSTCOPY_PAUSED, 2);
      loader.submit(new LoaderEvent.RecoverRequested("unix:" + socket)).get();
      awaitStatus(LoadStatus.COMPLETED);
      assertSameBytes(qemu, file, 0);
    }
  }

  @Test
  void aFreshDaemonGoesOnWithTheLoadOfAnother() throws Exception {
    Path file = GoldenSnapshot.of("pc").file();
    try (FakeQemu qemu = new FakeQemu(socket, Map.of())) {
      mayLoad = new CountDownLatch(1);
      Loader dying = new Loader();
      StreamMigration first = newLoad(dying, file, 0, StreamDestination.Options.NONE);
      dying.submit(new LoaderEvent.LoadRequested(first)).get();
      assertThat(qemu.running.await(20, TimeUnit.SECONDS)).isTrue();
      qemu.touch("pc.ram", 12 * 4096);
      dying.close();
      mayLoad.countDown();
      assertThat(traces).hasValue(1);

      StreamMigration second = newLoad(loader, file, 0, StreamDestination.Options.NONE);
      loader.submit(new LoaderEvent.PausedLoadFound(second, "left behind")).get();
      loader.submit(new LoaderEvent.RecoverRequested("unix:" + socket)).get();
      awaitStatus(LoadStatus.COMPLETED);
      assertSameBytes(qemu, file, 0);
    }
  }

  /** The devices are loaded, and in the same moment the connection is gone. */
  @RepeatedTest(20)
  void aConnectionThatIsLostAsTheGuestBeginsToRunIsNoticed() throws Exception {
    mayLoad = new CountDownLatch(1);
    try (FakeQemu _ = new FakeQemu(socket, Map.of()).dyingAtRun()) {
      StreamMigration _ = start(GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
      awaitStatus(LoadStatus.POSTCOPY_PAUSED);
      assertThat(statuses)
          .containsExactly(
              LoadStatus.SETUP,
              LoadStatus.POSTCOPY_DEVICE,
              LoadStatus.POSTCOPY_ACTIVE,
              LoadStatus.POSTCOPY_PAUSED);
      mayLoad.countDown();
    }
  }

  /** It takes the connection, answers, and then reads no more: sending would wait for ever. */
  @Test
  void aDestinationThatTakesNoDevicesIsGivenUp() throws Exception {
    try (FakeQemu _ = new FakeQemu(socket, Map.of()).deafAtThePackage()) {
      StreamMigration load =
          newLoad(loader, GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
      load.devicePatience(Duration.ofSeconds(1));
      loader.submit(new LoaderEvent.LoadRequested(load)).get();
      assertThat(awaitFailure())
          .contains("has not loaded its device state in 1 s")
          .contains("has to be started anew");
      assertThat(traces).hasValue(0);
    }
  }

  @Test
  void bitmapsThatDoNotFitIntoTheHeapSayWhatToDo() throws Exception {
    heapIsFull = true;
    try (FakeQemu _ = new FakeQemu(socket, Map.of())) {
      StreamMigration _ = start(GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
      assertThat(awaitFailure()).contains("POSTCOPYD_JAVA_OPTIONS=-Xmx");
    }
  }

  @Test
  void aRecoveryWithoutRoomInTheHeapLeavesTheGuestPaused() throws Exception {
    Path file = GoldenSnapshot.of("pc").file();
    heapIsFull = true;
    StreamMigration load = newLoad(loader, file, 0, StreamDestination.Options.NONE);
    loader.submit(new LoaderEvent.PausedLoadFound(load, "left behind")).get();
    loader.submit(new LoaderEvent.RecoverRequested("unix:" + socket)).get();
    awaitCount(LoadStatus.POSTCOPY_PAUSED, 2);
    assertThat(((LoaderState.PostcopyPaused) loader.state()).reason())
        .contains("POSTCOPYD_JAVA_OPTIONS=-Xmx");
  }

  /** Nothing of another file is sent, however often it is tried; the right one is. */
  @Test
  void aFileThatWasReplacedIsNotSentToARunningGuest() throws Exception {
    Path file = directory.resolve("copy.mr");
    Files.copy(GoldenSnapshot.of("pc").file(), file);
    try (FakeQemu qemu = new FakeQemu(socket, Map.of())) {
      mayLoad = new CountDownLatch(1);
      Loader dying = new Loader();
      StreamMigration first = newLoad(dying, file, 0, StreamDestination.Options.NONE);
      dying.submit(new LoaderEvent.LoadRequested(first)).get();
      assertThat(qemu.running.await(20, TimeUnit.SECONDS)).isTrue();
      qemu.touch("pc.ram", 12 * 4096);
      dying.close();
      mayLoad.countDown();
      try (NativeFile opened = NativeFile.open(file, NativeFile.Mode.READ)) {
        begun =
            Optional.of(
                new LoadTrace.Trace(
                    "file:" + file, PostcopyDestination.Terms.PLAIN, opened.identity()));
      }
      Path moved = directory.resolve("moved.mr");
      Files.move(file, moved);
      Files.copy(moved, file);

      StreamMigration second = newLoad(loader, file, 0, StreamDestination.Options.NONE);
      loader.submit(new LoaderEvent.PausedLoadFound(second, "left behind")).get();
      for (int attempt = 2; attempt <= 3; attempt++) {
        loader.submit(new LoaderEvent.RecoverRequested("unix:" + socket)).get();
        awaitCount(LoadStatus.POSTCOPY_PAUSED, attempt);
        assertThat(((LoaderState.PostcopyPaused) loader.state()).reason())
            .contains(file.toString())
            .contains("is not the file that the guest was started from");
      }
      Files.move(moved, file, StandardCopyOption.REPLACE_EXISTING);
      loader.submit(new LoaderEvent.RecoverRequested("unix:" + socket)).get();
      awaitStatus(LoadStatus.COMPLETED);
      assertSameBytes(qemu, file, 0);
    }
  }

  /** A destination that is another machine, or means no good, does not fill the heap. */
  @Test
  void endlessRequestsForUnknownMemoryEndTheConnection() throws Exception {
    mayLoad = new CountDownLatch(1);
    try (FakeQemu qemu = new FakeQemu(socket, Map.of("big", 1 << 30))) {
      StreamMigration _ = start(GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
      awaitStatus(LoadStatus.POSTCOPY_ACTIVE);
      qemu.discarding("big");
      qemu.request("big", 0);
      qemu.request("big", 1 << 30);
      awaitStatus(LoadStatus.POSTCOPY_PAUSED);
      assertThat(((LoaderState.PostcopyPaused) loader.state()).reason())
          .contains("block big")
          .contains("must be the same machine");
      mayLoad.countDown();
    }
  }

  @Test
  void nonsenseOnTheReturnPathPausesTheLoad() throws Exception {
    mayLoad = new CountDownLatch(1);
    try (FakeQemu qemu = new FakeQemu(socket, Map.of())) {
      StreamMigration _ = start(GoldenSnapshot.of("pc").file(), 0, StreamDestination.Options.NONE);
      awaitStatus(LoadStatus.POSTCOPY_ACTIVE);
      qemu.babble(new byte[] {0, 99, 0, 0});
      awaitStatus(LoadStatus.POSTCOPY_PAUSED);
      assertThat(((LoaderState.PostcopyPaused) loader.state()).reason())
          .contains("unknown message type 99")
          .contains("byte offset");
      mayLoad.countDown();
    }
  }

  /** The file loses its pages while the guest runs on them. */
  @Test
  void aTruncatedSnapshotFailsByNameAndOffset() throws Exception {
    Path file = directory.resolve("copy.mr");
    Files.copy(GoldenSnapshot.of("pc").file(), file);
    mayLoad = new CountDownLatch(1);
    try (FakeQemu qemu = new FakeQemu(socket, Map.of())) {
      StreamMigration _ = start(file, 0, StreamDestination.Options.NONE);
      awaitStatus(LoadStatus.POSTCOPY_ACTIVE);
      try (FileChannel out = FileChannel.open(file, StandardOpenOption.WRITE)) {
        out.truncate(2 << 20);
      }
      mayLoad.countDown();
      assertThat(awaitFailure()).contains(file.toString()).contains("pc.ram").contains("offset");
      assertThat(qemu.ended.getCount()).isEqualTo(1);
    }
  }

  @Test
  void namesAndSizesThatFitNothingAreRefusedBeforeAnythingIsSent() throws Exception {
    StreamMigration _ =
        start(
            GoldenSnapshot.of("pc").file(),
            0,
            new StreamDestination.Options(Map.of(), Map.of("pc.rom2", "x"), Optional.empty()));
    assertThat(awaitFailure()).contains("map.pc.rom2").contains("no such block");
  }

  private static StreamDestination.Options preempt(boolean on) {
    return new StreamDestination.Options(Map.of(), Map.of(), Optional.of(on));
  }

  private static long offsetOf(String name) {
    return name.equals("offset") ? 12345 : 0;
  }

  private StreamMigration start(Path file, long offset, StreamDestination.Options options)
      throws Exception {
    StreamMigration load = newLoad(loader, file, offset, options);
    assertThat(loader.submit(new LoaderEvent.LoadRequested(load)).get())
        .isInstanceOf(Transition.To.class);
    return load;
  }

  private StreamMigration newLoad(
      Loader with, Path file, long offset, StreamDestination.Options options) {
    LoadTrace trace =
        new LoadTrace() {
          @Override
          public void leave(Trace trace) {
            traces.incrementAndGet();
          }

          @Override
          public void remove() {
            traces.set(0);
          }

          @Override
          public Optional<Trace> find() {
            return Optional.empty();
          }
        };
    StreamContext context =
        new StreamContext(
            with,
            metrics,
            new StreamDestination(new StreamAddress.Unix(socket), options),
            (snapshot, _) -> {
              if (heapIsFull) {
                throw new OutOfMemoryError("Java heap space");
              }
              return new SnapshotPageHandler(snapshot, PageSize.SIZE_2M);
            },
            () -> {},
            false,
            true,
            // At a byte a second nothing follows the first run until the limit is lifted.
            () -> mayLoad.getCount() == 0 ? 0 : 1,
            new WorkingSetChoice.Off(),
            trace);
    SnapshotLocation location = new SnapshotLocation.AtPath(file, offset);
    return begun.isPresent()
        ? StreamMigration.begunBefore("file:" + file, location, context, begun)
        : new StreamMigration("file:" + file, location, context);
  }

  private String awaitFailure() throws InterruptedException {
    awaitStatus(LoadStatus.FAILED);
    return ((LoaderState.Failed) loader.state()).reason();
  }

  private void awaitCount(LoadStatus status, int count) throws InterruptedException {
    while (statuses.stream().filter(status::equals).count() < count) {
      TimeUnit.MILLISECONDS.sleep(1);
    }
  }

  private void awaitStatus(LoadStatus status) throws InterruptedException {
    while (statuses.isEmpty() || statuses.getLast() != status) {
      if (!statuses.isEmpty()
          && statuses.getLast() == LoadStatus.FAILED
          && status != LoadStatus.FAILED) {
        throw new AssertionError("ended as " + loader.state());
      }
      TimeUnit.MILLISECONDS.sleep(1);
    }
  }

  private static Snapshot open(Path file, long offset) throws IOException {
    return SnapshotOpener.open(NativeFile.open(file, NativeFile.Mode.READ), offset);
  }

  private static long storedBytes(Path file) throws IOException {
    try (Snapshot snapshot = open(file, 0)) {
      return snapshot.blocks().stream().mapToLong(block -> block.storedPages() * 4096).sum();
    }
  }

  private static void assertSameBytes(FakeQemu qemu, Path file, long offset) throws Exception {
    assertThat(qemu.ended.await(20, TimeUnit.SECONDS)).isTrue();
    try (Snapshot snapshot = open(file, offset)) {
      for (SnapshotBlock block : snapshot.blocks()) {
        byte[] memory = qemu.memoryOf(block.name());
        assertThat(memory).as(block.name()).hasSize((int) block.usedLengthBytes());
        byte[] zero = new byte[4096];
        for (long page = 0; page < block.pageCount(); page++) {
          byte[] expected =
              block.isStored(page)
                  ? snapshot.file().readBytesAt(block.pagesOffsetBytes() + page * 4096, 4096)
                  : zero;
          int at = (int) (page * 4096);
          assertThat(Arrays.equals(memory, at, at + 4096, expected, 0, 4096))
              .as("page %d of %s", page, block.name())
              .isTrue();
        }
      }
    }
  }
}
