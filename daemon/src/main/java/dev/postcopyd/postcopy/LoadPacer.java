package dev.postcopyd.postcopy;

/**
 * Decides when an {@link EagerLoader} may take its next run: a way into the guest that faults share
 * with it may have to be left to them, or to stay below a rate.
 *
 * <p>Called by loader threads before they claim anything, so that nobody has to wait for a page
 * that waits for its turn. Must not allocate.
 */
@FunctionalInterface
public interface LoadPacer {
  /** Every run at once. */
  LoadPacer AT_ONCE = () -> {};

  /** Returns when the next run is due; soon, once the load is being stopped. */
  void awaitTurn();
}
