package dev.postcopyd.postcopy.uffd;

/** Keeps where a guest's pages are, for whoever serves it after this process. */
@FunctionalInterface
public interface SegmentJournal {
  /** Nobody comes after. */
  SegmentJournal NONE = _ -> true;

  /**
   * Writes the segments down, all or nothing.
   *
   * @return false if there are more of them than can be kept
   */
  boolean write(GuestSegments segments);
}
