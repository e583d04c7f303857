package dev.postcopyd.outgoing.background;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.outgoing.SaveState;
import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.BesideRam;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import dev.postcopyd.snapshot.SnapshotOpener;
import dev.postcopyd.stream.StreamEncoder;
import dev.postcopyd.stream.StreamRecord;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Background snapshots of the daemon's own memory, over real userfaultfds, while threads write to
 * it: each write has a number, given under a lock that is held until it is done, so that a snapshot
 * is right if and only if there is a number up to which it has all writes, and no others.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class BackgroundSaveIT {
  private static final int PAGE = 4096;
  private static final long BLOCK_BYTES = 32L << 20;

  @TempDir Path directory;

  private final PostcopyMetrics metrics =
      new PostcopyMetrics(new PrometheusMeterRegistry(PrometheusConfig.DEFAULT));
  private final List<SaveState> states = new CopyOnWriteArrayList<>();
  private final List<Long> writtenPages = new ArrayList<>();
  private final List<Thread> writers = new ArrayList<>();

  /** So many pages are written to, the others are never touched. */
  private static final long WRITTEN = BLOCK_BYTES / PAGE * 3 / 4;

  private Optional<LocalGuest> guest = Optional.empty();
  private volatile boolean writing = true;

  @AfterEach
  void stop() throws Exception {
    writing = false;
    for (Thread writer : writers) {
      assertThat(writer.join(Duration.ofSeconds(20))).as("no writer hangs").isTrue();
    }
    guest.ifPresent(LocalGuest::close);
  }

  private LocalGuest newGuest() throws IOException {
    RamBlockTable.Builder table = RamBlockTable.builder();
    table.add("pc.ram", BLOCK_BYTES, PageSize.SIZE_4K);
    table.add("vga.vram", 1 << 20, PageSize.SIZE_4K);
    LocalGuest made = LocalGuest.allocate(table.build());
    for (RamBlock block : made.table().blocks()) {
      made.memoryOf(block).forbidHugePages();
    }
    guest = Optional.of(made);
    return made;
  }

  private static MachineState machine() {
    byte[] configuration =
        new StreamEncoder()
            .record(
                new StreamRecord.Configuration(
                    "pc-test",
                    List.of(
                        new dev.postcopyd.stream.ConfigurationSubsection.Capabilities(
                            List.of("mapped-ram")))))
            .toByteArray();
    return new MachineState(
        configuration,
        Optional.of("pc-test"),
        2,
        new byte[0],
        BesideRam.NONE,
        new byte[0],
        Optional.empty());
  }

  private BackgroundSave save(Path file, long bufferBytes) {
    BackgroundSave save =
        new BackgroundSave(
            new LocalTrackedGuest(guest.orElseThrow(), machine(), Optional.empty()),
            SaveTarget.atPath(file, 0),
            bufferBytes,
            metrics,
            states::add);
    save.start();
    return save;
  }

  /** Writes its number to the page's first and last word, by plain downcalls as a guest's would. */
  private void write(MemorySegment number, long page) {
    synchronized (writtenPages) {
      number.set(ValueLayout.JAVA_LONG, 0, writtenPages.size() + 1);
      long address = guest.orElseThrow().baseAddresses()[0] + page * PAGE;
      GuestMemoryAccess.copy(address, number.address(), 8);
      GuestMemoryAccess.copy(address + PAGE - 8, number.address(), 8);
      writtenPages.add(page);
    }
  }

  /** Nobody can pause this guest, and a first touch is not held up while it is being protected. */
  private void touchWhatIsWrittenTo() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment zero = arena.allocate(8, 8);
      for (long page = 0; page < WRITTEN; page++) {
        long address = guest.orElseThrow().baseAddresses()[0] + page * PAGE;
        GuestMemoryAccess.copy(address, zero.address(), 8);
      }
    }
  }

  private void startWriters(int count) throws InterruptedException {
    touchWhatIsWrittenTo();
    CountDownLatch begun = new CountDownLatch(count);
    for (int i = 0; i < count; i++) {
      Random random = new Random(i);
      writers.add(
          Thread.ofPlatform()
              .start(() -> {
                try (Arena arena = Arena.ofConfined()) {
                  MemorySegment number = arena.allocate(8, 8);
                  begun.countDown();
                  while (writing) {
                    // Some pages are written to often, and a part is never touched.
                    write(
                        number,
                        random.nextInt(4) == 0 ? random.nextLong(WRITTEN) : random.nextLong(64));
                  }
                }
              }));
    }
    begun.await();
  }

  private static void awaitEnd(BackgroundSave save) throws InterruptedException {
    assertThat(save.awaitEnd(Duration.ofSeconds(60))).isTrue();
  }

  /** Compares with the writes up to the newest that it has; answers that one's number. */
  private long assertConsistentCut(Path file) throws IOException {
    List<Long> writes;
    synchronized (writtenPages) {
      writes = List.copyOf(writtenPages);
    }
    long[] numbers = new long[(int) (BLOCK_BYTES / PAGE)];
    long[] lastWords = new long[numbers.length];
    try (Snapshot snapshot = SnapshotOpener.open(NativeFile.open(file, NativeFile.Mode.READ), 0);
        MemoryMapping page = MemoryMapping.anonymous(PAGE)) {
      SnapshotBlock block = snapshot.blocks().getFirst();
      long cut = 0;
      for (int i = 0; i < numbers.length; i++) {
        if (block.isStored(i)) {
          snapshot
              .file()
              .readFullyAt(page.address(), PAGE, block.pagesOffsetBytes() + (long) i * PAGE);
          numbers[i] = page.asSegment().get(ValueLayout.JAVA_LONG, 0);
          lastWords[i] = page.asSegment().get(ValueLayout.JAVA_LONG, PAGE - 8);
        }
        cut = Math.max(cut, numbers[i]);
      }
      long[] expected = new long[numbers.length];
      for (int number = 1; number <= cut; number++) {
        expected[writes.get(number - 1).intValue()] = number;
      }
      assertThat(numbers).isEqualTo(expected);
      // The moment may lie between the two words of the newest write, and of no other.
      int newest = cut == 0 ? -1 : writes.get((int) cut - 1).intValue();
      for (int i = 0; i < numbers.length; i++) {
        if (i != newest) {
          assertThat(lastWords[i]).isEqualTo(numbers[i]);
        }
      }
      return cut;
    }
  }

  @Test
  void everySnapshotUnderLoadIsAConsistentCut() throws Exception {
    LocalGuest memory = newGuest();
    startWriters(3);
    long before = 0;
    for (int i = 0; i < 5; i++) {
      TimeUnit.MILLISECONDS.sleep(50);
      Path file = directory.resolve("snapshot" + i);
      BackgroundSave save = save(file, BackgroundSave.DEFAULT_BUFFER_BYTES);
      awaitEnd(save);
      assertThat(save.state()).isInstanceOf(SaveState.Completed.class);
      assertThat(save.scannedBytes()).isEqualTo(memory.table().totalBytes());
      assertThat(save.downtimeNanos()).isPresent();
      long cut = assertConsistentCut(file);
      assertThat(cut).isGreaterThan(before);
      before = cut;
    }
    synchronized (writtenPages) {
      assertThat((long) writtenPages.size()).isGreaterThan(before);
    }
  }

  /** With hardly any room to copy to, guests are held up, and nothing else. */
  @Test
  void aSmallBufferHoldsWritersUpAndTheSnapshotIsRight() throws Exception {
    LocalGuest memory = newGuest();
    startWriters(3);
    TimeUnit.MILLISECONDS.sleep(200);
    Path file = directory.resolve("snapshot");
    BackgroundSave save = save(file, 1);
    awaitEnd(save);
    assertThat(save.state()).isInstanceOf(SaveState.Completed.class);
    long _ = assertConsistentCut(file);
    assertThat(memory.table().totalBytes()).isPositive();
  }

  @Test
  void anUntouchedGuestCostsNothing() throws Exception {
    LocalGuest _ = newGuest();
    Path file = directory.resolve("snapshot");
    BackgroundSave save = save(file, BackgroundSave.DEFAULT_BUFFER_BYTES);
    awaitEnd(save);
    assertThat(save.state()).isInstanceOf(SaveState.Completed.class);
    assertThat(save.writtenBytes()).isZero();
    assertThat(assertConsistentCut(file)).isZero();
    assertThat(states.getFirst()).isInstanceOf(SaveState.Active.class);
  }

  @Test
  void cancelledAndNothingIsLeft() throws Exception {
    LocalGuest _ = newGuest();
    startWriters(2);
    for (int i = 0; i < 10; i++) {
      Path file = directory.resolve("cancelled" + i);
      BackgroundSave save = save(file, BackgroundSave.DEFAULT_BUFFER_BYTES);
      TimeUnit.MICROSECONDS.sleep(i * 3_000L);
      save.cancel();
      awaitEnd(save);
      if (save.state() instanceof SaveState.Cancelled) {
        assertThat(file).doesNotExist();
      }
      assertThat(save.state()).isNotInstanceOf(SaveState.Failed.class);
      assertThat(directory.resolve(".cancelled" + i + ".partial")).doesNotExist();
      goesOn();
    }
    assertThat(states).anyMatch(SaveState.Cancelled.class::isInstance);
  }

  @Test
  void aTargetThatCannotBeOpenedFailsAndTheGuestGoesOn() throws Exception {
    LocalGuest _ = newGuest();
    startWriters(2);
    BackgroundSave save =
        save(directory.resolve("none").resolve("file"), BackgroundSave.DEFAULT_BUFFER_BYTES);
    awaitEnd(save);
    assertThat(save.state()).isInstanceOf(SaveState.Failed.class);
    goesOn();
  }

  /** A disk of 8 MiB that is full before the guest is saved. */
  @Test
  void aFullDiskFailsAndTheGuestGoesOn() throws Exception {
    Path disk = Files.createDirectory(directory.resolve("disk"));
    run("mount", "-t", "tmpfs", "-o", "size=8m", "none", disk.toString());
    try {
      LocalGuest memory = newGuest();
      fill(memory);
      startWriters(2);
      Path file = disk.resolve("snapshot");
      BackgroundSave save = save(file, 1);
      awaitEnd(save);
      assertThat(save.state())
          .isInstanceOfSatisfying(
              SaveState.Failed.class, failed -> assertThat(failed.reason()).contains("ENOSPC"));
      goesOn();
      try (var left = Files.list(disk)) {
        assertThat(left).isEmpty();
      }
    } finally {
      run("umount", disk.toString());
    }
  }

  private static void fill(LocalGuest memory) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment ones = arena.allocate(PAGE).fill((byte) 1);
      for (long page = 0; page < BLOCK_BYTES / PAGE; page++) {
        GuestMemoryAccess.copy(memory.baseAddresses()[0] + page * PAGE, ones.address(), PAGE);
      }
    }
  }

  private static void run(String... command) throws Exception {
    assertThat(new ProcessBuilder(command).inheritIO().start().waitFor()).isZero();
  }

  private void goesOn() throws InterruptedException {
    int before;
    synchronized (writtenPages) {
      before = writtenPages.size();
    }
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
    while (System.nanoTime() < end) {
      synchronized (writtenPages) {
        if (writtenPages.size() > before + 10) {
          return;
        }
      }
      TimeUnit.MILLISECONDS.sleep(5);
    }
    throw new AssertionError("the writers hang");
  }
}
