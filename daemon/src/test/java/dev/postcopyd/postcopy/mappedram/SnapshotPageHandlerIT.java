package dev.postcopyd.postcopy.mappedram;

import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.postcopy.PageSink;
import dev.postcopyd.postcopy.Urgency;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import dev.postcopyd.snapshot.SnapshotFormat;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** What is delivered for which pages, from a real file in memory. */
class SnapshotPageHandlerIT {
  private static final int PAGES = 1024;
  private static final long PAGES_OFFSET = 1 << 20;

  /** Page i of the file is filled with i+1 (mod 256), also those that are not stored. */
  private static Snapshot snapshot(BitSet stored, int pagesInFile) throws IOException {
    NativeFile file = NativeFile.memfd("pages");
    byte[] page = new byte[4096];
    for (int i = 0; i < pagesInFile; i++) {
      java.util.Arrays.fill(page, (byte) (i + 1));
      file.writeBytesAt(page, PAGES_OFFSET + i * 4096L);
    }
    long[] bits = java.util.Arrays.copyOf(stored.toLongArray(), PAGES / 64);
    SnapshotBlock block =
        new SnapshotBlock("ram", PAGES * 4096L, PageSize.SIZE_4K, PAGES_OFFSET, bits);
    return new InMemorySnapshot(file, List.of(block));
  }

  private static RamBlock block(PageSize size) {
    RamBlockTable.Builder builder = RamBlockTable.builder();
    return builder.add("ram", PAGES * 4096L, size);
  }

  @Test
  void aRunIsCutWhereDataAndZeroMeetAndStoredBytesOfZeroPagesAreNeverSeen() throws IOException {
    BitSet stored = new BitSet();
    stored.set(2, 5);
    stored.set(70, 200);
    Deliveries sink = new Deliveries();
    try (Snapshot snapshot = snapshot(stored, PAGES);
        SnapshotPageHandler handler = new SnapshotPageHandler(snapshot, PageSize.SIZE_4K)) {
      handler.fetch(block(PageSize.SIZE_4K), 0, 256, Urgency.EAGER, sink);
    }
    assertThat(sink.log)
        .containsExactly(
            "zero 0+2",
            "data 2+3",
            "zero 5+65",
            "data 70+64",
            "data 134+64",
            "data 198+2",
            "zero 200+56");
    sink.assertEveryByteIsThePages();
  }

  @Test
  void zeroPagesAreKnownWithoutALookAtThem() throws IOException {
    java.util.Random random = new java.util.Random(5);
    BitSet stored = new BitSet();
    for (int page = 0; page < PAGES; page += 1 + random.nextInt(90)) {
      stored.set(page, Math.min(PAGES, page + random.nextInt(70)));
    }
    Snapshot snapshot = snapshot(stored, PAGES);
    SnapshotPageHandler handler = new SnapshotPageHandler(snapshot, PageSize.SIZE_2M);
    handler.close();
    snapshot.close();
    // Also when all is closed: somebody may still be looking.
    for (int shift : new int[] {12, 14, 17}) {
      RamBlock block = block(new PageSize(shift));
      for (long first = 0; first < block.pageCount(); first += 64) {
        long zero = handler.knownZeroPages(block, first);
        for (long page = first; page < Math.min(first + 64, block.pageCount()); page++) {
          int from = (int) (page << (shift - 12));
          int next = stored.nextSetBit(from);
          boolean isZero = next < 0 || next >= from + (1 << (shift - 12));
          assertThat((zero & 1L << page) != 0).as("page %d of 2^%d", page, shift).isEqualTo(isZero);
        }
      }
    }
  }

  @Test
  void oneFaultIsOnePage() throws IOException {
    BitSet stored = new BitSet();
    stored.set(0, PAGES);
    Deliveries sink = new Deliveries();
    try (Snapshot snapshot = snapshot(stored, PAGES);
        SnapshotPageHandler handler = new SnapshotPageHandler(snapshot, PageSize.SIZE_4K)) {
      handler.fetch(block(PageSize.SIZE_4K), 777, 1, Urgency.FAULT, sink);
    }
    assertThat(sink.log).containsExactly("data 777+1");
    sink.assertEveryByteIsThePages();
  }

  @Test
  void aHugePageIsPutTogetherFromStoredAndZeroPages() throws IOException {
    BitSet stored = new BitSet();
    stored.set(512 + 3, 512 + 100);
    stored.set(1023);
    Deliveries sink = new Deliveries();
    try (Snapshot snapshot = snapshot(stored, PAGES);
        SnapshotPageHandler handler = new SnapshotPageHandler(snapshot, PageSize.SIZE_2M)) {
      handler.fetch(block(PageSize.SIZE_2M), 0, 2, Urgency.EAGER, sink);
    }
    assertThat(sink.log).containsExactly("zero 0+1", "data 1+1");
    byte[] huge = sink.bytes.getFirst();
    for (int page = 0; page < 512; page++) {
      byte expected = stored.get(512 + page) ? (byte) (512 + page + 1) : 0;
      assertThat(huge[page * 4096]).as("first byte of page %d", page).isEqualTo(expected);
      assertThat(huge[page * 4096 + 4095]).as("last byte of page %d", page).isEqualTo(expected);
    }
  }

  @Test
  void aPageBeyondTheEndOfTheFileFailsWithPathAndOffset() throws IOException {
    BitSet stored = new BitSet();
    stored.set(0, PAGES);
    Deliveries sink = new Deliveries();
    try (Snapshot snapshot = snapshot(stored, 128);
        SnapshotPageHandler handler = new SnapshotPageHandler(snapshot, PageSize.SIZE_4K)) {
      handler.fetch(block(PageSize.SIZE_4K), 64, 256, Urgency.EAGER, sink);
    }
    assertThat(sink.log).hasSize(2).first().isEqualTo("data 64+64");
    assertThat(sink.log.getLast())
        .startsWith("failed 128+192: a page of block ram can't be read")
        .contains("pages")
        .contains("offset " + (PAGES_OFFSET + 128 * 4096));
  }

  private static final class Deliveries implements PageSink {
    final List<String> log = new ArrayList<>();
    final List<Long> firstPages = new ArrayList<>();
    final List<byte[]> bytes = new ArrayList<>();

    @Override
    public void data(RamBlock block, long first, int count, long source, Urgency urgency) {
      log.add("data " + first + "+" + count);
      firstPages.add(first);
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment copy = arena.allocate(block.hostPageSize().offsetOf(count));
        GuestMemoryAccess.copy(copy.address(), source, copy.byteSize());
        bytes.add(copy.toArray(java.lang.foreign.ValueLayout.JAVA_BYTE));
      }
    }

    @Override
    public void zero(RamBlock block, long first, int count, Urgency urgency) {
      log.add("zero " + first + "+" + count);
    }

    @Override
    public void failed(RamBlock block, long first, int count, IOException cause) {
      log.add("failed " + first + "+" + count + ": " + cause.getMessage());
    }

    void assertEveryByteIsThePages() {
      for (int i = 0; i < bytes.size(); i++) {
        byte[] delivered = bytes.get(i);
        for (int offset = 0; offset < delivered.length; offset += 512) {
          assertThat(delivered[offset]).isEqualTo((byte) (firstPages.get(i) + offset / 4096 + 1));
        }
      }
    }
  }

  private record InMemorySnapshot(NativeFile file, List<SnapshotBlock> blocks) implements Snapshot {
    @Override
    public String name() {
      return file.name();
    }

    @Override
    public SnapshotFormat format() {
      return SnapshotFormat.MAPPED_RAM;
    }

    @Override
    public Optional<MachineState> machineState() {
      return Optional.empty();
    }

    @Override
    public void close() {
      file.close();
    }
  }
}
