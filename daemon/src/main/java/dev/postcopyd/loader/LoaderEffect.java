package dev.postcopyd.loader;

/** What is to be done because of a transition: a step of a load. Carried out in order. */
public sealed interface LoaderEffect {
  Load load();

  /** See {@link Load#prepare}. */
  record Prepare(Load load) implements LoaderEffect {}

  /** See {@link Load#handOverDeviceState}. */
  record HandOverDeviceState(Load load) implements LoaderEffect {}

  /** See {@link Load#startEagerLoader}. */
  record StartEagerLoader(Load load) implements LoaderEffect {}

  /** See {@link Load#detachGuest}. */
  record DetachGuest(Load load) implements LoaderEffect {}

  /** See {@link Load#pause}. */
  record Pause(Load load) implements LoaderEffect {}

  /** See {@link Load#recover}. */
  record Recover(Load load, String uri) implements LoaderEffect {}

  /** See {@link Load#release}; also for a completed load whose guest gives way to a new one. */
  record Release(Load load) implements LoaderEffect {}
}
