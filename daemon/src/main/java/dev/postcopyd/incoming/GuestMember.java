package dev.postcopyd.incoming;

import dev.postcopyd.loader.LoadTimes;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.loader.LoaderState;
import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.posix.StreamEnd;
import dev.postcopyd.postcopy.PostcopyEngine;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * A guest as {@link HandedOverGuests} has it: with a state machine of its own, its metrics, and,
 * once there is a snapshot, its load. Safe for any thread; {@link #over} is for the registry.
 */
final class GuestMember implements Loader.StateListener {
  private static final long WATCH_NANOS = 200_000_000L;

  final HandedOverGuest guest;
  final Loader loader = new Loader();

  /** Null while it waits for a snapshot. */
  volatile @Nullable HandedOverLoad load;

  private final LoadTimes times = new LoadTimes();
  private final PostcopyMetrics metrics;
  private final AggregateStatus status;
  private final Consumer<String> gone;
  private final Runnable metricsEnd;
  private boolean over;
  private boolean ending;

  /**
   * A guest without a load.
   *
   * @param status is told of the states of its load
   * @param gone is told if it ends while it waits
   */
  GuestMember(
      HandedOverGuest guest,
      PostcopyMetrics metrics,
      AggregateStatus status,
      Consumer<String> gone) {
    this.guest = guest;
    this.metrics = metrics;
    this.status = status;
    this.gone = gone;
    metricsEnd =
        metrics.exportGuest(
            guest.id(), () -> view().remainingBytes(), () -> (double) view().faults());
    loader.addListener(times);
    loader.addListener(this);
  }

  @Override
  public void stateChanged(LoaderState before, LoaderState after) {
    if (after instanceof LoaderState.Ended) {
      metrics.migrationEnded("incoming", after.status().name().toLowerCase(Locale.ROOT));
    }
    status.changed(guest.id(), after.status());
  }

  /** Looks for the end of a guest that waits for a snapshot; nobody else does. */
  void watchWhileWaiting() {
    Thread _ =
        Thread.ofPlatform()
            .name("waiting-g" + guest.id())
            .daemon()
            .start(() -> {
              while (isWaiting()) {
                LockSupport.parkNanos(WATCH_NANOS);
              }
            });
  }

  private synchronized boolean isWaiting() {
    HandedOverLoad of = load;
    if (over || (of != null && of.isServing())) {
      return false;
    }
    if (guest.connection() >= 0 && StreamEnd.reached(guest.connection())) {
      gone.accept("its connection has ended");
      return false;
    }
    return true;
  }

  /** Whether this is the first time that its end is noticed. */
  synchronized boolean beginEnd() {
    boolean first = !ending;
    ending = true;
    return first;
  }

  /** Nobody looks at its descriptors any more. */
  synchronized void over() {
    if (!over) {
      over = true;
      metricsEnd.run();
    }
  }

  /** The guest as somebody sees it who only watches: no lock of the fault path is taken. */
  LoadLook look() {
    LoaderState state = loader.state();
    Optional<HandedOverLoad> of = Optional.ofNullable(load);
    Optional<PostcopyEngine> engine = of.flatMap(HandedOverLoad::engine);
    return new LoadLook(
        guest.id(),
        of.map(HandedOverLoad::source),
        state.status(),
        state instanceof LoaderState.Failed failed
            ? Optional.of(failed.reason())
            : Optional.empty(),
        times.history(),
        engine.map(SnapshotLoad::ramOf),
        engine);
  }

  GuestView view() {
    return GuestView.of(guest, loader.state(), times, Optional.ofNullable(load));
  }
}
