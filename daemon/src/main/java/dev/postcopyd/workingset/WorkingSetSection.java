package dev.postcopyd.workingset;

/**
 * Pages of a working set that are in no better company: those that some recordings saw and others
 * did not, by the latest that saw them. Immutable; nobody writes to the array.
 */
final class WorkingSetSection {
  private final long recording;
  private final long[] pageKeys;

  /**
   * @param recording number of the latest recording that saw these pages, counted from 1
   * @param pageKeys in access order, see {@link PageKey}; taken over
   */
  WorkingSetSection(long recording, long[] pageKeys) {
    this.recording = recording;
    this.pageKeys = pageKeys;
  }

  long recording() {
    return recording;
  }

  long[] pageKeys() {
    return pageKeys;
  }
}
