package dev.postcopyd.postcopy.uffd;

import dev.postcopyd.page.RamBlock;

/**
 * Is told what a handed-over guest does with its memory. Called on the thread that reads the
 * userfaultfd, while no loader places anything; must return soon.
 */
public interface GuestChanges {
  /** These pages are no longer wanted from the snapshot: given back, or unmapped. */
  void dropped(RamBlock block, long firstPageIndex, long pageCount);

  /**
   * The guest has forked. The pages of the child are those of the guest at this moment.
   *
   * @param descriptor the userfaultfd of the child; the listener's from now on
   */
  void forked(int descriptor);

  /** The guest's process, or its connection, is at its end. Called once. */
  void gone(String reason);

  /** The guest does what can't be served: it gets no memory any more. */
  void misbehaved(String reason);
}
