package dev.postcopyd.outgoing.background;

import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.posix.SharedBlocks;
import dev.postcopyd.postcopy.ClaimBitmap;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.snapshot.MappedRamWriter;
import dev.postcopyd.snapshot.SnapshotLineage;
import java.io.IOException;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * What a snapshot begins with: nothing, or the one before it. Owns that one's open file. For the
 * thread of the snapshot.
 */
final class SnapshotStart implements AutoCloseable {
  private static final int RUN_PAGES = 1 << 20;
  private static final long STEP_BYTES = 8 << 20;

  private final @Nullable NativeFile earlier;
  private final boolean shared;
  private final @Nullable ClaimBitmap populated;
  private final Optional<SnapshotLineage> lineage;
  private final boolean keeps;

  /** Asked between two steps of something that takes long. */
  @FunctionalInterface
  interface Check {
    void check() throws IOException;
  }

  private SnapshotStart(
      @Nullable NativeFile earlier,
      boolean shared,
      @Nullable ClaimBitmap populated,
      Optional<SnapshotLineage> lineage,
      boolean keeps) {
    this.earlier = earlier;
    this.shared = shared;
    this.populated = populated;
    this.lineage = lineage;
    this.keeps = keeps;
  }

  /** How the next snapshot of a guest begins; see {@link WriteTracking#start}. */
  static SnapshotStart of(TrackedGuest guest, SaveTarget target, NativeFile out)
      throws IOException {
    Optional<WriteTracking> tracking = guest.tracking();
    return tracking.isPresent()
        ? tracking.get().start(guest, target, out)
        : new SnapshotStart(null, false, null, Optional.empty(), false);
  }

  /**
   * A full snapshot.
   *
   * @param keeps whether writes are tracked from it on
   */
  static SnapshotStart full(String reason, boolean keeps) {
    return new SnapshotStart(null, false, null, Optional.of(SnapshotLineage.full(reason)), keeps);
  }

  /**
   * A snapshot that begins with what an earlier one has.
   *
   * @param earlier its file; belongs to the result
   * @param shared whether the new file has its contents already
   */
  static SnapshotStart from(RamBlockTable table, NativeFile earlier, boolean shared) {
    return new SnapshotStart(
        earlier,
        shared,
        ClaimBitmap.allClaimed(table),
        Optional.of(SnapshotLineage.from(earlier.name())),
        true);
  }

  boolean isIncremental() {
    return earlier != null;
  }

  /** Whether protection is kept when a page is copied, and after the snapshot. */
  boolean keeps() {
    return keeps;
  }

  /** Takes the pages that hold anything at the moment; empty for a full snapshot. */
  Optional<ClaimBitmap> populated() {
    return Optional.ofNullable(populated);
  }

  /** Makes the writer; after the moment. */
  MappedRamWriter writer(
      NativeFile out,
      long offsetBytes,
      MachineState machine,
      FileLayout layout,
      List<MemoryRange> ranges)
      throws IOException {
    MachineState told = lineage.map(of -> of.in(machine)).orElse(machine);
    NativeFile from = earlier;
    ClaimBitmap there = populated;
    if (from == null || there == null) {
      return MappedRamWriter.create(out, offsetBytes, told, layout.blocks());
    }
    MappedRamWriter writer;
    if (shared) {
      writer = MappedRamWriter.onCopy(out, told, layout.blocks());
    } else {
      writer = MappedRamWriter.create(out, offsetBytes, told, layout.blocks());
      writer.inherit(from);
    }
    for (MemoryRange range : ranges) {
      zeroMissing(writer, layout, range, there);
    }
    return writer;
  }

  /** What holds nothing at the moment is zero, whatever it was before. Uses the bitmap up. */
  private static void zeroMissing(
      MappedRamWriter writer, FileLayout layout, MemoryRange range, ClaimBitmap populated) {
    long end = range.endPageIndex();
    long page = range.firstPageIndex();
    while (page < end) {
      long next = populated.nextUnclaimed(page, end);
      long missingEnd = next < 0 ? end : next;
      if (missingEnd > page) {
        PageSize size = range.block().hostPageSize();
        writer.zeroPages(
            layout.fileBlock(range.block()),
            layout.filePage(range.block(), range.block().offsetOf(page)),
            size.offsetOf(missingEnd - page) / CopiedPages.PAGE_BYTES);
      }
      page = missingEnd;
      if (page < end) {
        page += populated.tryClaimRun(page, (int) Math.min(end - page, RUN_PAGES));
      }
    }
  }

  /** Copies from the earlier file what has not changed, if that is to be copied. */
  void inherit(MappedRamWriter writer, Check check) throws IOException {
    do {
      check.check();
    } while (writer.inheritNext(STEP_BYTES) > 0);
  }

  /** All of it is on the disk. */
  void written(NativeFile out) {
    if (shared) {
      boolean _ = SharedBlocks.tryKeepTogether(out, false);
    }
  }

  @Override
  public void close() {
    NativeFile from = earlier;
    if (from != null) {
      from.close();
    }
  }
}
