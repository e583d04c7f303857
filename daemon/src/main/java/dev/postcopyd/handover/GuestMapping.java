package dev.postcopyd.handover;

import dev.postcopyd.page.PageSize;
import java.util.Optional;

/**
 * One mapping of a guest's memory, as its VMM describes it.
 *
 * @param baseAddress where it begins in the VMM's address space
 * @param sizeBytes its length, whole pages
 * @param offsetBytes where its contents begin in the snapshot: in a raw file, or in the block
 * @param pageSize what it is backed by
 * @param ramBlock the snapshot's block that it belongs to, if the VMM says so
 */
public record GuestMapping(
    long baseAddress,
    long sizeBytes,
    long offsetBytes,
    PageSize pageSize,
    Optional<String> ramBlock) {

  /** Behind its last address. */
  public long endAddress() {
    return baseAddress + sizeBytes;
  }

  @Override
  public String toString() {
    return "0x%x+0x%x".formatted(baseAddress, sizeBytes);
  }
}
