package dev.postcopyd.outgoing.background;

import dev.postcopyd.page.RamBlock;
import java.io.IOException;

/** Copies pages of a guest that are all there. Each user has one of its own; allocates nothing. */
@FunctionalInterface
public interface GuestReader {
  /**
   * Copies bytes of the guest's memory to memory of the daemon's.
   *
   * @param address where they are in the guest's address space
   * @param block whose part they are
   * @param offsetBytes where in the block
   */
  void read(RamBlock block, long offsetBytes, long address, long lengthBytes, long destination)
      throws IOException;
}
