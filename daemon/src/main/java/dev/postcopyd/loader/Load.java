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

  /** Stops everything and frees all. */
  void release();
}
