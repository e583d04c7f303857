package dev.postcopyd.incoming;

import dev.postcopyd.loader.LoadStatus;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;

/**
 * One status for many guests: while any guest is being filled, that of the one that has come least
 * far; else that of the one that ended last; without any guest, {@code setup} once a snapshot has
 * been named and {@code none} before.
 *
 * <p>Changes may be reported from any thread, and are told to the listener in that order on one of
 * this object's own, so that who reports holds no lock that the listener could want.
 */
public final class AggregateStatus implements AutoCloseable {
  private final Listener listener;
  private final ExecutorService thread =
      Executors.newSingleThreadExecutor(
          Thread.ofPlatform().name("guest-states").daemon().factory());

  // On that thread only.
  private final Map<Long, LoadStatus> live = new HashMap<>();
  private LoadStatus whenNoneIsLive = LoadStatus.NONE;
  private LoadStatus told = LoadStatus.NONE;

  /** Is told of every change. */
  public interface Listener {
    void statusChanged(LoadStatus status);
  }

  AggregateStatus(Listener listener) {
    this.listener = listener;
  }

  void changed(long guest, LoadStatus status) {
    submit(() -> {
      if (isEnd(status)) {
        var _ = live.remove(guest);
        whenNoneIsLive = status;
      } else {
        live.put(guest, status);
      }
    });
  }

  void snapshotNamed() {
    submit(() -> whenNoneIsLive = LoadStatus.SETUP);
  }

  private void submit(Runnable change) {
    try {
      thread.execute(() -> {
        change.run();
        LoadStatus now = of(live.values(), whenNoneIsLive);
        if (now != told) {
          told = now;
          listener.statusChanged(now);
        }
      });
    } catch (RejectedExecutionException e) {
      // The daemon ends, and nobody listens any more.
    }
  }

  /**
   * The status of guests together.
   *
   * @param live of those that are being filled or wait for that
   */
  public static LoadStatus of(Collection<LoadStatus> live, LoadStatus whenNoneIsLive) {
    LoadStatus least = null;
    for (LoadStatus status : live) {
      if (least == null || rank(status) < rank(least)) {
        least = status;
      }
    }
    if (least == null) {
      return whenNoneIsLive;
    }
    return least == LoadStatus.NONE ? LoadStatus.SETUP : least;
  }

  private static boolean isEnd(LoadStatus status) {
    return rank(status) == END;
  }

  private static final int END = 9;

  private static int rank(LoadStatus status) {
    return switch (status) {
      case NONE, SETUP -> 0;
      case ACTIVE, POSTCOPY_DEVICE -> 1;
      case POSTCOPY_ACTIVE, POSTCOPY_PAUSED, POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER -> 2;
      case CANCELLING -> 3;
      case COMPLETED, FAILED, CANCELLED -> END;
    };
  }

  @Override
  public void close() {
    thread.shutdown();
  }
}
