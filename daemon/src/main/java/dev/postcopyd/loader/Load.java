package dev.postcopyd.loader;

/**
 * One load's work, step by step. The {@link Loader} decides when each step is due and calls it on
 * its worker thread, one at a time; a step that succeeds, fails or is overtaken says so by an event
 * through the {@link Loader}, never by throwing.
 *
 * <p>A load owns all that it opens and maps until {@link #release}, which may be called after any
 * step, is called exactly once, and frees everything: files, threads, the guest's memory.
 */
public interface Load {
  /** How RAM is brought in. */
  enum Mode {
    /** The guest runs while its RAM arrives. */
    LAZY,
    /** Everything first, then the guest: a load without the postcopy-ram capability. */
    PLAIN
  }

  /** The migration URI, as messages name it. */
  String source();

  Mode mode();

  /**
   * Checks the snapshot and attaches the guest; then arms its RAM and serves its faults (LAZY:
   * RamArmed) or makes it ready to be filled (PLAIN: RamReady).
   */
  void prepare();

  /** Gives the guest its device state (DeviceStateLoaded). */
  void handOverDeviceState();

  /** Begins to bring in what nobody has asked for (AllPagesReceived at its end). */
  void startEagerLoader();

  /** All pages are there: ends the fault path and lets the guest go (GuestDetached). */
  void detachGuest();

  /**
   * Whether the guest can still be given up once it has begun to take its device state. A guest of
   * somebody else can't: it runs, or is about to, and has nobody else to get its memory from.
   */
  default boolean canBeAbandoned() {
    return true;
  }

  /** The connection to the guest has been lost: ends what depended on it, and keeps the rest. */
  default void pause() {
    throw new IllegalStateException("this load has no connection that could be lost");
  }

  /**
   * Connects to the guest anew (Reconnected) and finds out what it has (Resumed); ConnectionLost if
   * that fails.
   *
   * @param uri where the guest waits; empty where it waited before
   */
  default void recover(String uri) {
    throw new IllegalStateException("this load has no connection that could be recovered");
  }

  /** Makes a step that waits for somebody return soon. Called from any thread, at any time. */
  default void interrupt() {}

  /** Stops everything and frees all. */
  void release();
}
