package dev.postcopyd.workingset;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.snapshot.SnapshotIdentity;
import java.util.List;

/** Small working sets for tests. */
final class WorkingSets {
  static final SnapshotIdentity IDENTITY =
      new SnapshotIdentity(
          "pc-i440fx-10.0",
          List.of(
              new SnapshotIdentity.Block("pc.ram", 1000 * 4096L, PageSize.SIZE_4K),
              new SnapshotIdentity.Block("vga.vram", 64 * 4096L, PageSize.SIZE_4K)),
          0x0123456789abcdefL);

  static final long NO_LIMIT = WorkingSet.MAX_BYTES;

  private WorkingSets() {}

  /** Pages of block 0, in this order. */
  static long[] ram(long... pages) {
    return keys(0, pages);
  }

  static long[] vram(long... pages) {
    return keys(1, pages);
  }

  private static long[] keys(int block, long... pages) {
    long[] keys = new long[pages.length];
    for (int i = 0; i < pages.length; i++) {
      keys[i] = PageKey.of(block, pages[i]);
    }
    return keys;
  }

  static long[] range(long from, long to) {
    long[] keys = new long[(int) (to - from)];
    for (int i = 0; i < keys.length; i++) {
      keys[i] = PageKey.of(0, from + i);
    }
    return keys;
  }

  static long[] concat(long[]... parts) {
    return java.util.Arrays.stream(parts).flatMapToLong(java.util.Arrays::stream).toArray();
  }

  /** A core of some runs in both blocks, some backwards, and two sections. */
  static WorkingSet usual() {
    return new WorkingSet(
        IDENTITY,
        3,
        concat(ram(500, 501, 502, 7, 6, 5), vram(63, 0, 1), ram(999)),
        List.of(
            new WorkingSetSection(3, concat(vram(20), ram(8, 9))),
            new WorkingSetSection(1, ram(400))));
  }
}
