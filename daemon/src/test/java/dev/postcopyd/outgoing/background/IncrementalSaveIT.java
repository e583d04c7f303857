package dev.postcopyd.outgoing.background;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.lab.LoopFileSystem;
import dev.postcopyd.lab.ReservedHugePages;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.outgoing.SaveState;
import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.abi.Libc;
import dev.postcopyd.posix.abi.PosixConstants;
import dev.postcopyd.posix.abi.SyscallNumbers;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import dev.postcopyd.snapshot.SnapshotLineage;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.snapshot.VmmState;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Snapshots that are made from the one before, of the daemon's own memory over a real userfaultfd.
 * At rest a snapshot has to hold exactly what memory holds; under load, there has to be a number up
 * to which it has all writes, and no others.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class IncrementalSaveIT {
  private static final int PAGE = 4096;
  private static final long BLOCK_BYTES = 32L << 20;
  private static final int PAGES = (int) (BLOCK_BYTES / PAGE);

  @TempDir Path directory;

  private final PostcopyMetrics metrics =
      new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT));
  private final List<Long> writtenPages = new ArrayList<>();
  private final List<Thread> writers = new ArrayList<>();
  private final WriteTracking copies = new WriteTracking(Incremental.COPY);
  private Optional<LocalGuest> guest = Optional.empty();
  private volatile boolean writing = true;

  @AfterEach
  void stop() throws Exception {
    stopWriters();
    copies.end("the test has ended");
    guest.ifPresent(LocalGuest::close);
  }

  private void stopWriters() throws InterruptedException {
    writing = false;
    for (Thread writer : writers) {
      assertThat(writer.join(Duration.ofSeconds(20))).as("no writer hangs").isTrue();
    }
    writers.clear();
  }

  private LocalTrackedGuest newGuest(WriteTracking tracking) throws IOException {
    return newGuest(tracking, PageSize.SIZE_4K);
  }

  private LocalTrackedGuest newGuest(WriteTracking tracking, PageSize size) throws IOException {
    RamBlockTable.Builder table = RamBlockTable.builder();
    table.add("pc.ram", BLOCK_BYTES, size);
    table.add("vga.vram", 1 << 20, PageSize.SIZE_4K);
    LocalGuest made = LocalGuest.allocate(table.build());
    for (RamBlock block : made.table().blocks()) {
      made.memoryOf(block).forbidHugePages();
    }
    guest = Optional.of(made);
    return new LocalTrackedGuest(made, VmmState.machineOf(new byte[100]), Optional.of(tracking));
  }

  private long address(long page) {
    return guest.orElseThrow().baseAddresses()[0] + page * PAGE;
  }

  private void put(long page, int offset, long number) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment bytes = arena.allocate(8, 8);
      bytes.set(ValueLayout.JAVA_LONG, 0, number);
      GuestMemoryAccess.copy(address(page) + offset, bytes.address(), 8);
    }
  }

  private long get(long page) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment bytes = arena.allocate(8, 8);
      GuestMemoryAccess.copy(bytes.address(), address(page), 8);
      return bytes.get(ValueLayout.JAVA_LONG, 0);
    }
  }

  private void giveBack(long page, long pages) {
    assertThat(
            Libc.syscall(
                SyscallNumbers.SYS_MADVISE,
                address(page),
                pages * PAGE,
                PosixConstants.MADV_DONTNEED))
        .isZero();
  }

  private BackgroundSave save(LocalTrackedGuest of, SaveTarget target) {
    BackgroundSave save =
        new BackgroundSave(of, target, BackgroundSave.DEFAULT_BUFFER_BYTES, metrics, _ -> {});
    save.start();
    return save;
  }

  /** Saves to a file; answers what that says of its making. */
  private SnapshotLineage saved(LocalTrackedGuest of, Path file) throws Exception {
    BackgroundSave save = save(of, SaveTarget.atPath(file, 0));
    assertThat(save.awaitEnd(Duration.ofSeconds(60))).isTrue();
    assertThat(save.state()).isInstanceOf(SaveState.Completed.class);
    try (Snapshot snapshot = open(file)) {
      return SnapshotLineage.of(snapshot.machineState().orElseThrow()).orElseThrow();
    }
  }

  private static Snapshot open(Path file) throws IOException {
    return SnapshotOpener.open(NativeFile.open(file, NativeFile.Mode.READ), 0);
  }

  private static SnapshotLineage from(Path file) {
    return SnapshotLineage.from(file.toString());
  }

  /** Nobody writes: the file holds what memory holds, and nothing is stored that is zero. */
  private void assertHoldsMemory(Path file) throws IOException {
    try (Snapshot snapshot = open(file);
        Arena arena = Arena.ofConfined()) {
      MemorySegment there = arena.allocate(PAGE);
      MemorySegment stored = arena.allocate(PAGE);
      for (int index = 0; index < snapshot.blocks().size(); index++) {
        SnapshotBlock block = snapshot.blocks().get(index);
        for (long page = 0; page < block.pageCount(); page++) {
          GuestMemoryAccess.copy(
              there.address(), guest.orElseThrow().baseAddresses()[index] + page * PAGE, PAGE);
          assertThat(block.isStored(page))
              .as("page %d", page)
              .isEqualTo(!GuestMemoryAccess.isZero(there.address(), PAGE));
          if (block.isStored(page)) {
            snapshot.file().readFullyAt(stored, block.pagesOffsetBytes() + page * PAGE);
            assertThat(stored.mismatch(there)).as("page %d", page).isEqualTo(-1);
          }
        }
      }
    }
  }

  private void assertGenerations(LocalTrackedGuest of, Path where) throws Exception {
    for (int page = 0; page < PAGES / 2; page++) {
      put(page, 8, page + 1);
    }
    Path before = where.resolve("0");
    assertThat(saved(of, before).reason())
        .contains("postcopyd has made none before it since it was started");
    assertHoldsMemory(before);
    Random random = new Random(1);
    for (int generation = 1; generation < 6; generation++) {
      Path next = where.resolve(String.valueOf(generation));
      int from = generation * 64;
      // Written, among them what was never touched; zeroed; given back; given back and read again;
      // given back and written again.
      for (int i = 0; i < 50; i++) {
        put(random.nextInt(PAGES), 16, generation);
      }
      for (int offset = 0; offset < PAGE; offset += 8) {
        put(from, offset, 0);
      }
      giveBack(from + 1, 3);
      assertThat(get(from + 2)).isZero();
      put(from + 3, 0, generation);
      assertThat(saved(of, next)).isEqualTo(from(before));
      assertHoldsMemory(next);
      before = next;
    }
    // Nothing at all.
    assertThat(saved(of, where.resolve("none"))).isEqualTo(from(before));
    assertHoldsMemory(where.resolve("none"));
    // In the place of the one before.
    put(3, 0, 77);
    assertThat(saved(of, where.resolve("none"))).isEqualTo(from(where.resolve("none")));
    assertHoldsMemory(where.resolve("none"));
  }

  @Test
  void generationsByCopy() throws Exception {
    assertGenerations(newGuest(copies), directory);
  }

  @ParameterizedTest
  @ValueSource(strings = {"xfs", "btrfs"})
  void generationsByReflink(String fileSystem) throws Exception {
    WriteTracking tracking = new WriteTracking(Incremental.REFLINK);
    try (LoopFileSystem disk = LoopFileSystem.of(fileSystem, directory)) {
      assertGenerations(newGuest(tracking), disk.path());
    } finally {
      tracking.end("the test has ended");
    }
  }

  /** The protection of a huge page that was given back stays, and says nothing any more. */
  @Test
  void hugePagesAreSavedInFull() throws Exception {
    try (ReservedHugePages _ = ReservedHugePages.of2M((int) (BLOCK_BYTES >> 21))) {
      LocalTrackedGuest of = newGuest(copies, PageSize.SIZE_2M);
      put(0, 0, 1);
      put(1024, 0, 2);
      put(2048, 0, 3);
      Path first = directory.resolve("first");
      assertThat(saved(of, first).reason()).isPresent();
      put(1025, 0, 4);
      giveBack(2048, 512);
      Path second = directory.resolve("second");
      assertThat(saved(of, second).reason().orElseThrow()).contains("huge pages");
      assertHoldsMemory(second);
      copies.end("the test has ended");
      guest.orElseThrow().close();
      guest = Optional.empty();
    }
  }

  @Test
  void whereTheFileSystemCannotShareAllAreFull() throws Exception {
    Path disk = Files.createDirectory(directory.resolve("disk"));
    run("mount", "-t", "tmpfs", "-o", "size=80m", "none", disk.toString());
    WriteTracking tracking = new WriteTracking(Incremental.REFLINK);
    try {
      LocalTrackedGuest of = newGuest(tracking);
      put(1, 0, 1);
      SnapshotLineage _ = saved(of, disk.resolve("a"));
      put(2, 0, 2);
      assertThat(saved(of, disk.resolve("b")).reason().orElseThrow())
          .contains("can't share blocks");
      assertHoldsMemory(disk.resolve("b"));
    } finally {
      tracking.end("the test has ended");
      run("umount", disk.toString());
    }
  }

  @Test
  void aChangedOrMissingFileIsNotTakenForTheLatest() throws Exception {
    LocalTrackedGuest of = newGuest(copies);
    put(1, 0, 1);
    Path file = directory.resolve("a");
    SnapshotLineage _ = saved(of, file);
    byte[] contents = Files.readAllBytes(file);
    // The same length, and the same time of writing.
    var time = Files.getLastModifiedTime(file);
    contents[contents.length - 1] ^= 1;
    Files.write(file, contents, StandardOpenOption.WRITE);
    Files.setLastModifiedTime(file, time);
    put(2, 0, 2);
    assertThat(saved(of, directory.resolve("b")).reason().orElseThrow())
        .contains("is no longer what the latest snapshot has written");
    assertHoldsMemory(directory.resolve("b"));
    put(3, 0, 2);
    assertThat(saved(of, directory.resolve("c"))).isEqualTo(from(directory.resolve("b")));
    assertHoldsMemory(directory.resolve("c"));
    Files.delete(directory.resolve("c"));
    assertThat(saved(of, directory.resolve("d")).reason().orElseThrow()).contains("ENOENT");
    // A place in a file can't be begun from another file.
    BackgroundSave save = save(of, SaveTarget.atPath(directory.resolve("e"), 4096));
    assertThat(save.awaitEnd(Duration.ofSeconds(60))).isTrue();
    assertThat(save.state()).isInstanceOf(SaveState.Completed.class);
    assertThat(saved(of, directory.resolve("f")).reason().orElseThrow())
        .contains("no file by itself");
    assertHoldsMemory(directory.resolve("f"));
  }

  @Test
  void cancelledOrFailedInBetween() throws Exception {
    LocalTrackedGuest of = newGuest(copies);
    for (int page = 0; page < PAGES; page++) {
      put(page, 0, page + 1);
    }
    Path good = directory.resolve("good");
    SnapshotLineage _ = saved(of, good);
    for (int i = 0; i < 6; i++) {
      put(i, 0, 100 + i);
      BackgroundSave save = save(of, SaveTarget.atPath(directory.resolve("cancelled"), 0));
      TimeUnit.MILLISECONDS.sleep(i * 4L);
      save.cancel();
      assertThat(save.awaitEnd(Duration.ofSeconds(60))).isTrue();
      if (save.state() instanceof SaveState.Cancelled) {
        put(10 + i, 0, 100 + i);
        assertThat(saved(of, directory.resolve("next")).reason().orElseThrow())
            .contains("it was cancelled");
      } else {
        assertThat(saved(of, directory.resolve("next")))
            .isEqualTo(from(directory.resolve("cancelled")));
      }
      assertHoldsMemory(directory.resolve("next"));
    }
    Path disk = Files.createDirectory(directory.resolve("disk"));
    run("mount", "-t", "tmpfs", "-o", "size=8m", "none", disk.toString());
    try {
      put(1, 0, 5);
      BackgroundSave save = save(of, SaveTarget.atPath(disk.resolve("full"), 0));
      assertThat(save.awaitEnd(Duration.ofSeconds(60))).isTrue();
      assertThat(save.state()).isInstanceOf(SaveState.Failed.class);
      put(2, 0, 5);
      assertThat(saved(of, directory.resolve("next")).reason().orElseThrow()).contains("ENOSPC");
      assertHoldsMemory(directory.resolve("next"));
      put(2, 0, 6);
      assertThat(saved(of, directory.resolve("last"))).isEqualTo(from(directory.resolve("next")));
      assertHoldsMemory(directory.resolve("last"));
    } finally {
      run("umount", disk.toString());
    }
  }

  private static void run(String... command) throws Exception {
    assertThat(new ProcessBuilder(command).inheritIO().start().waitFor()).isZero();
  }

  // ---- under load

  private void write(long page) {
    synchronized (writtenPages) {
      long number = writtenPages.size() + 1L;
      writtenPages.add(page);
      put(page, 0, number);
      put(page, PAGE - 8, number);
    }
  }

  private void startWriters() {
    for (int i = 0; i < 3; i++) {
      Random random = new Random(i);
      writers.add(
          Thread.ofPlatform()
              .start(() -> {
                while (writing) {
                  write(random.nextInt(4) == 0 ? random.nextInt(PAGES) : random.nextInt(64));
                }
              }));
    }
  }

  @Test
  void everyGenerationUnderLoadIsAConsistentCut() throws Exception {
    LocalTrackedGuest of = newGuest(copies);
    // Each page holds something, so that each is protected: there is nobody who would pause.
    for (long page = 0; page < PAGES; page++) {
      write(page);
    }
    startWriters();
    Path before = directory.resolve("0");
    assertThat(saved(of, before).reason()).isPresent();
    long cut = assertConsistentCut(before);
    for (int generation = 1; generation < 12; generation++) {
      TimeUnit.MILLISECONDS.sleep(10);
      Path next = directory.resolve(String.valueOf(generation));
      assertThat(saved(of, next)).isEqualTo(from(before));
      long later = assertConsistentCut(next);
      assertThat(later).isGreaterThan(cut);
      cut = later;
      Files.delete(before);
      before = next;
    }
    stopWriters();
    assertThat(saved(of, directory.resolve("rest"))).isEqualTo(from(before));
    assertHoldsMemory(directory.resolve("rest"));
  }

  private long assertConsistentCut(Path file) throws IOException {
    List<Long> writes;
    synchronized (writtenPages) {
      writes = List.copyOf(writtenPages);
    }
    long[] numbers = new long[PAGES];
    long[] lastWords = new long[PAGES];
    long cut = 0;
    try (Snapshot snapshot = open(file);
        MemoryMapping page = MemoryMapping.anonymous(PAGE)) {
      SnapshotBlock block = snapshot.blocks().getFirst();
      for (int i = 0; i < PAGES; i++) {
        snapshot
            .file()
            .readFullyAt(page.address(), PAGE, block.pagesOffsetBytes() + (long) i * PAGE);
        numbers[i] = page.asSegment().get(ValueLayout.JAVA_LONG, 0);
        lastWords[i] = page.asSegment().get(ValueLayout.JAVA_LONG, PAGE - 8);
        cut = Math.max(cut, numbers[i]);
      }
    }
    long[] expected = new long[PAGES];
    for (int number = 1; number <= cut; number++) {
      expected[writes.get(number - 1).intValue()] = number;
    }
    assertThat(numbers).isEqualTo(expected);
    // The moment may lie between the two words of the newest write, and of no other.
    int newest = writes.get((int) cut - 1).intValue();
    for (int i = 0; i < PAGES; i++) {
      if (i != newest) {
        assertThat(lastWords[i]).as("page %d", i).isEqualTo(numbers[i]);
      }
    }
    return cut;
  }
}
