package dev.postcopyd.loader;

/**
 * Where a load stands. Each state owns only what is true in it. {@code sinceNanos} is when it was
 * entered, by {@link System#nanoTime}.
 */
public sealed interface LoaderState {
  long sinceNanos();

  LoadStatus status();

  /** A load is under way: there is something to fail, to cancel, and to wait for. */
  sealed interface Live extends LoaderState {
    Load load();
  }

  /** No load is under way, and a new one may begin. */
  sealed interface Idle extends LoaderState {}

  /** A load has come to its end. */
  sealed interface Ended extends Idle {
    Load load();
  }

  /** Nothing has been loaded yet. */
  record None(long sinceNanos) implements Idle {
    @Override
    public LoadStatus status() {
      return LoadStatus.NONE;
    }
  }

  /** The snapshot is opened and checked, the guest attached, its RAM armed. */
  record Setup(long sinceNanos, Load load) implements Live {
    @Override
    public LoadStatus status() {
      return LoadStatus.SETUP;
    }
  }

  /** A plain load brings in all RAM. */
  record Active(long sinceNanos, Load load, boolean received) implements Live {
    @Override
    public LoadStatus status() {
      return LoadStatus.ACTIVE;
    }
  }

  /**
   * Faults are served, and the guest is given its device state.
   *
   * @param received all pages have been asked for already, before the guest even ran
   */
  record PostcopyDevice(long sinceNanos, Load load, boolean received) implements Live {
    @Override
    public LoadStatus status() {
      return LoadStatus.POSTCOPY_DEVICE;
    }
  }

  /**
   * The guest runs; faults and the eager loader bring in its RAM side by side.
   *
   * @param received all pages are there; the guest is being let go
   */
  record PostcopyActive(long sinceNanos, Load load, boolean received) implements Live {
    @Override
    public LoadStatus status() {
      return LoadStatus.POSTCOPY_ACTIVE;
    }
  }

  /**
   * The connection to the guest is lost; the guest runs on what it has and waits for what it has
   * not.
   *
   * @param reason what became of the connection
   */
  record PostcopyPaused(long sinceNanos, Load load, String reason) implements Live {
    @Override
    public LoadStatus status() {
      return LoadStatus.POSTCOPY_PAUSED;
    }
  }

  /** A paused load connects to its guest anew. */
  record PostcopyRecoverSetup(long sinceNanos, Load load) implements Live {
    @Override
    public LoadStatus status() {
      return LoadStatus.POSTCOPY_RECOVER_SETUP;
    }
  }

  /** The guest is asked what it has received. */
  record PostcopyRecover(long sinceNanos, Load load) implements Live {
    @Override
    public LoadStatus status() {
      return LoadStatus.POSTCOPY_RECOVER;
    }
  }

  /** A cancelled load is giving back what it holds. */
  record Cancelling(long sinceNanos, Load load) implements Live {
    @Override
    public LoadStatus status() {
      return LoadStatus.CANCELLING;
    }
  }

  /** The guest has all its RAM and depends on nobody. */
  record Completed(long sinceNanos, Load load) implements Ended {
    @Override
    public LoadStatus status() {
      return LoadStatus.COMPLETED;
    }
  }

  /** The load could not be finished; {@code reason} is what error-desc says. */
  record Failed(long sinceNanos, Load load, String reason) implements Ended {
    @Override
    public LoadStatus status() {
      return LoadStatus.FAILED;
    }
  }

  /** The load was cancelled, and holds nothing any more. */
  record Cancelled(long sinceNanos, Load load) implements Ended {
    @Override
    public LoadStatus status() {
      return LoadStatus.CANCELLED;
    }
  }
}
