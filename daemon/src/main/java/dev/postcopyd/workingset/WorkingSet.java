package dev.postcopyd.workingset;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.snapshot.SnapshotIdentity;
import java.util.Arrays;
import java.util.List;

/**
 * The pages of one snapshot that guests touched first when they were resumed from it, in the order
 * in which the next resume should bring them in: first the <em>core</em>, the pages that every
 * recording saw which could, in access order; then the others, those that the latest recording saw
 * first, in access order each.
 *
 * <p>Pages are target pages of the snapshot's blocks, so that a recording holds for any host page
 * size. Immutable. {@link WorkingSetMerge} makes a new one of it, {@link WorkingSetCodec} bytes.
 */
public final class WorkingSet {
  /** A working set has no more pages than fill so many bytes. */
  public static final long MAX_BYTES = 256L << 20;

  private final SnapshotIdentity identity;
  private final long recordings;
  private final long[] core;
  private final List<WorkingSetSection> others;

  /**
   * @param recordings how many recordings it is made of
   * @param core see {@link PageKey}; taken over
   * @param others with falling recording numbers
   */
  WorkingSet(
      SnapshotIdentity identity, long recordings, long[] core, List<WorkingSetSection> others) {
    this.identity = identity;
    this.recordings = recordings;
    this.core = core;
    this.others = List.copyOf(others);
  }

  /** The working set of a snapshot of which there is no recording yet. */
  static WorkingSet empty(SnapshotIdentity identity) {
    return new WorkingSet(identity, 0, new long[0], List.of());
  }

  /**
   * How many bytes of pages a guest's working set may have: {@link #MAX_BYTES}, and no more than
   * half of its RAM, beyond which order no longer helps.
   */
  public static long limitBytes(long ramBytes) {
    return Math.min(MAX_BYTES, ramBytes / 2);
  }

  /** The snapshot that it belongs to. */
  public SnapshotIdentity identity() {
    return identity;
  }

  /** How many recordings it is made of. */
  public long recordings() {
    return recordings;
  }

  /** How many pages every recording saw which could. */
  public int corePageCount() {
    return core.length;
  }

  /** How many target pages there are in all. */
  public int pageCount() {
    return core.length + others.stream().mapToInt(section -> section.pageKeys().length).sum();
  }

  long[] core() {
    return core;
  }

  List<WorkingSetSection> others() {
    return others;
  }

  /** All pages, in the order in which they should be brought in. */
  long[] pageKeys() {
    long[] keys = Arrays.copyOf(core, pageCount());
    int end = core.length;
    for (WorkingSetSection section : others) {
      System.arraycopy(section.pageKeys(), 0, keys, end, section.pageKeys().length);
      end += section.pageKeys().length;
    }
    return keys;
  }

  /**
   * The host pages to bring in first, each once and in order, as page indices of a guest's table.
   *
   * @param table its first blocks are those of the snapshot, in the snapshot's order
   */
  public long[] pageIndices(RamBlockTable table) {
    long[] seen = new long[Math.toIntExact((table.indexSpaceSize() + 63) >>> 6)];
    long[] indices = new long[pageCount()];
    int count = 0;
    for (long key : pageKeys()) {
      int blockIndex = PageKey.blockIndex(key);
      RamBlock block = table.blocks().get(blockIndex);
      long offsetBytes =
          identity.blocks().get(blockIndex).targetPageSize().offsetOf(PageKey.targetPage(key));
      long pageIndex = block.pageIndexAt(offsetBytes);
      long bit = 1L << pageIndex;
      if ((seen[(int) (pageIndex >>> 6)] & bit) == 0) {
        seen[(int) (pageIndex >>> 6)] |= bit;
        indices[count++] = pageIndex;
      }
    }
    return Arrays.copyOf(indices, count);
  }
}
