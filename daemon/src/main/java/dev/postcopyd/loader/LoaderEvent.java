package dev.postcopyd.loader;

/** What can happen to a load. */
public sealed interface LoaderEvent {
  /** Somebody wants a snapshot loaded. */
  record LoadRequested(Load load) implements LoaderEvent {}

  /** Somebody wants the load cancelled. */
  record CancelRequested() implements LoaderEvent {}

  /**
   * An earlier daemon has left a guest without the rest of its memory, and this load can go on with
   * it.
   */
  record PausedLoadFound(Load load, String reason) implements LoaderEvent {}

  /**
   * Somebody wants a paused load to go on.
   *
   * @param uri where the guest waits for a connection; empty where it waited before
   */
  record RecoverRequested(String uri) implements LoaderEvent {}

  /** What a load itself reports; it means nothing once another load has taken its place. */
  sealed interface OfLoad extends LoaderEvent {
    Load load();
  }

  /** All of the guest's RAM is armed for faults, and they are being served. */
  record RamArmed(Load load) implements OfLoad {}

  /** All of the guest's RAM is there to be filled; nobody can fault on it (a plain load). */
  record RamReady(Load load) implements OfLoad {}

  /** The guest says that it has its device state, and runs or may be started. */
  record DeviceStateLoaded(Load load) implements OfLoad {}

  /** Every page is in the guest. */
  record AllPagesReceived(Load load) implements OfLoad {}

  /** The guest no longer depends on the source: nothing of it is armed for faults. */
  record GuestDetached(Load load) implements OfLoad {}

  /** The connection to the guest is gone, and with it everything that was under way on it. */
  record ConnectionLost(Load load, String reason) implements OfLoad {}

  /** The guest has been connected to anew. */
  record Reconnected(Load load) implements OfLoad {}

  /** It is known what the guest has, and it is ready for the rest. */
  record Resumed(Load load) implements OfLoad {}

  /** Something went wrong that the load can't survive. */
  record LoadFailed(Load load, String reason) implements OfLoad {}

  /** All that the load held has been given back. */
  record Released(Load load) implements OfLoad {}
}
