package dev.postcopyd.incoming;

import dev.postcopyd.guest.PostcopyDestination;
import dev.postcopyd.posix.FileIdentity;
import java.io.IOException;
import java.util.Optional;

/**
 * What outlives the daemon, so that a fresh one can go on with a load whose guest runs already.
 * Called by the thread of the load's steps.
 */
public interface LoadTrace {
  /** For loads that nobody can go on with. */
  LoadTrace NONE =
      new LoadTrace() {
        @Override
        public void leave(Trace trace) {}

        @Override
        public void remove() {}

        @Override
        public Optional<Trace> find() {
          return Optional.empty();
        }
      };

  /**
   * What a fresh daemon has to know.
   *
   * @param snapshotUri the migration URI of the snapshot
   * @param terms what the guest asked for; block names need not be kept
   * @param identity which file the guest depends on: another one at the same place would do harm
   */
  record Trace(String snapshotUri, PostcopyDestination.Terms terms, FileIdentity identity) {
    /** Whether the guest expects a second channel. */
    public boolean preempt() {
      return terms.preempt();
    }
  }

  /** The guest is about to run and will depend on the snapshot; outlives the daemon from now on. */
  void leave(Trace trace) throws IOException;

  /** The guest depends on nobody any more, or is gone. */
  void remove();

  /** What an earlier daemon has left behind for this guest. */
  Optional<Trace> find();
}
