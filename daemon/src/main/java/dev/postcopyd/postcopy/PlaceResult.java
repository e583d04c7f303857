package dev.postcopyd.postcopy;

/**
 * What became of pages that were to be placed; each kind but {@link Placed} and {@link Withheld}
 * says how many made it.
 */
public sealed interface PlaceResult {
  /** All pages are in the guest, and whoever waited for them is awake. */
  PlaceResult PLACED = new Placed();

  /** How many pages of the run were placed before the trouble; meaningless for {@link Placed}. */
  int pagesPlaced();

  /** See {@link #PLACED}. */
  record Placed() implements PlaceResult {
    @Override
    public int pagesPlaced() {
      throw new IllegalStateException("all pages were placed");
    }
  }

  /**
   * The pages count as placed, but nothing has gone to the guest: it has what they are, zeros, by
   * itself in the end. Whoever waits for one of them now has to be woken.
   */
  PlaceResult WITHHELD = new Withheld();

  /** See {@link #WITHHELD}. */
  record Withheld() implements PlaceResult {
    @Override
    public int pagesPlaced() {
      throw new IllegalStateException("all pages count as placed");
    }
  }

  /** The guest's address space is gone. */
  record TargetGone(int pagesPlaced) implements PlaceResult {}

  /**
   * The guest's memory would not take the page: no memory left, or a refusal by the kernel or peer.
   */
  record Refused(int pagesPlaced, String reason) implements PlaceResult {}
}
