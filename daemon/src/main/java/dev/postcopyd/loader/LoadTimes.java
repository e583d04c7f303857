package dev.postcopyd.loader;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;

/**
 * When the latest load entered each of its states. Written by the loader's thread as a listener,
 * read by anybody.
 */
public final class LoadTimes implements Loader.StateListener {
  private static final int MOST_ENTRIES = 64;

  private final Map<LoadStatus, Long> entered = new EnumMap<>(LoadStatus.class);
  private final List<Entry> history = new ArrayList<>();

  /** A state, and when it was entered, by {@link System#nanoTime}. */
  public record Entry(LoadStatus status, long sinceNanos) {}

  @Override
  public synchronized void stateChanged(LoaderState before, LoaderState after) {
    if (after.status() == LoadStatus.SETUP) {
      entered.clear();
      history.clear();
    }
    entered.put(after.status(), after.sinceNanos());
    if (history.size() == MOST_ENTRIES) {
      // Of a load that is interrupted again and again: how it began stays, and how it goes.
      history.remove(MOST_ENTRIES / 2);
    }
    history.add(new Entry(after.status(), after.sinceNanos()));
  }

  /** The states of the latest load in their order; of very many some in the middle are left out. */
  public synchronized List<Entry> history() {
    return List.copyOf(history);
  }

  /** From setup to the end of the load, or to now while it goes on. */
  public synchronized OptionalLong totalNanos(long nowNanos) {
    Long start = entered.get(LoadStatus.SETUP);
    if (start == null) {
      return OptionalLong.empty();
    }
    long end = nowNanos;
    for (LoadStatus last :
        new LoadStatus[] {LoadStatus.COMPLETED, LoadStatus.FAILED, LoadStatus.CANCELLED}) {
      Long ended = entered.get(last);
      if (ended != null) {
        end = ended;
      }
    }
    return OptionalLong.of(end - start);
  }

  /** From setup to when RAM was ready, if it got so far. */
  public synchronized OptionalLong setupNanos() {
    Long start = entered.get(LoadStatus.SETUP);
    Long ready = entered.getOrDefault(LoadStatus.POSTCOPY_DEVICE, entered.get(LoadStatus.ACTIVE));
    return start == null || ready == null ? OptionalLong.empty() : OptionalLong.of(ready - start);
  }
}
