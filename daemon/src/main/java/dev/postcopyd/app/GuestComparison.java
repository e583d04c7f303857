package dev.postcopyd.app;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.posix.GuestMemoryAccess;
import dev.postcopyd.posix.MemoryMapping;
import dev.postcopyd.posix.NativeFile;
import dev.postcopyd.snapshot.Snapshot;
import dev.postcopyd.snapshot.SnapshotBlock;
import dev.postcopyd.snapshot.SnapshotOpener;
import java.io.IOException;
import java.nio.file.Path;

/** Compares the memory of a completed load with the snapshot that it came from, page by page. */
public final class GuestComparison {
  private GuestComparison() {}

  /**
   * How many target pages differ; 0 says that the load brought in every byte.
   *
   * @throws IOException if the snapshot can't be read
   */
  public static long differingPages(LocalGuest guest, Path path, long offsetBytes)
      throws IOException {
    NativeFile file = NativeFile.open(path, NativeFile.Mode.READ);
    try (Snapshot snapshot = SnapshotOpener.open(file, offsetBytes);
        MemoryMapping stored = file.map(0, file.sizeBytes())) {
      long differing = 0;
      for (RamBlock block : guest.table().blocks()) {
        differing +=
            differingPages(guest.memoryOf(block), snapshot.blocks().get(block.index()), stored);
      }
      return differing;
    }
  }

  private static long differingPages(
      MemoryMapping memory, SnapshotBlock block, MemoryMapping stored) {
    PageSize size = block.targetPageSize();
    long differing = 0;
    for (long page = 0; page < block.pageCount(); page++) {
      long address = memory.address() + size.offsetOf(page);
      boolean same =
          block.isStored(page)
              ? GuestMemoryAccess.equal(
                  address,
                  stored.address() + block.pagesOffsetBytes() + size.offsetOf(page),
                  size.bytes())
              : GuestMemoryAccess.isZero(address, size.bytes());
      differing += same ? 0 : 1;
    }
    return differing;
  }
}
