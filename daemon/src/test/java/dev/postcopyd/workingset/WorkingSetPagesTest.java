package dev.postcopyd.workingset;

import static dev.postcopyd.workingset.WorkingSets.concat;
import static dev.postcopyd.workingset.WorkingSets.ram;
import static dev.postcopyd.workingset.WorkingSets.range;
import static dev.postcopyd.workingset.WorkingSets.vram;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.snapshot.SnapshotIdentity;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Target pages in the file, host pages in the guest. */
class WorkingSetPagesTest {
  private static final SnapshotIdentity IDENTITY =
      new SnapshotIdentity(
          "",
          List.of(
              new SnapshotIdentity.Block("pc.ram", 8 << 20, PageSize.SIZE_4K),
              new SnapshotIdentity.Block("vga.vram", 64 * 4096, PageSize.SIZE_4K)),
          0);

  /** With other names than the snapshot's, and a block that it does not know. */
  private static RamBlockTable table(PageSize ofRam) {
    RamBlockTable.Builder table = RamBlockTable.builder();
    table.add("ram0", 8 << 20, ofRam);
    table.add("vga", 64 * 4096, PageSize.SIZE_4K);
    table.add("extra", 64 * 4096, PageSize.SIZE_4K);
    return table.build();
  }

  @Test
  void samePageSizes() {
    RamBlockTable table = table(PageSize.SIZE_4K);
    WorkingSet set = new WorkingSet(IDENTITY, 1, concat(ram(600, 1), vram(3)), List.of());
    assertThat(set.pageIndices(table)).containsExactly(600, 1, 2048 + 3);
    assertThat(Recording.keysOf(new long[] {2048 + 3, 7, 2048 + 64}, table, IDENTITY))
        .as("pages of unknown blocks are left out")
        .containsExactly(concat(vram(3), ram(7)));
  }

  @Test
  void aHugePageIsBroughtInOnceAndRecordedWhole() {
    RamBlockTable table = table(PageSize.SIZE_2M);
    WorkingSet set = new WorkingSet(IDENTITY, 1, concat(ram(600, 1, 601), vram(3)), List.of());
    assertThat(set.pageIndices(table)).containsExactly(1, 0, 64 + 3);
    assertThat(Recording.keysOf(new long[] {3, 64}, table, IDENTITY))
        .containsExactly(concat(range(1536, 2048), vram(0)));
  }
}
