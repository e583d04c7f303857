package dev.postcopyd.postcopy;

/**
 * Is told how a load ends. Called on the fault thread or a loader thread, each method at most once,
 * and must return at once.
 */
public interface EngineListener {
  /** Every page of every block has been placed. */
  void allPagesReceived();

  /**
   * The load can't go on. Pages that are missing now stay missing: whoever waits for one goes on
   * waiting until the owner of the guest's memory decides.
   */
  void loadFailed(String reason);
}
