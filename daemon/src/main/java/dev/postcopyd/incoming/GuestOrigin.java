package dev.postcopyd.incoming;

import dev.postcopyd.loader.Load;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.util.Optional;

/**
 * Where the pages of one handed-over guest come from. All methods but the last four and {@link
 * #ram} are called on the thread of the load's steps; owns what it opens, until {@link #close}.
 * What has to do with a connection is for a source, and nothing to others.
 */
interface GuestOrigin {
  /** As messages name it. */
  String uri();

  /** What has come so far, if that is more than what the guest has. */
  default Optional<RamFigures> ram(Optional<PostcopyEngine> engine) {
    return engine.map(SnapshotLoad::ramOf);
  }

  /** How its load begins. */
  Load.Mode mode();

  /**
   * Begins; {@link HandedOverLoad#serve} is called as soon as there is something to serve the guest
   * with, now or later.
   */
  void begin(HandedOverLoad load) throws IOException;

  /**
   * Brings in what nobody has touched, if that is wanted. May be called more than once, and by a
   * source's thread.
   */
  void startLoading(PostcopyEngine engine);

  /** Whether all pages that the guest has are all that there will be. */
  boolean isExhausted();

  /** The guest has all its pages, and depends on nobody any more. */
  void loaded();

  /** The connection to a source is lost. */
  default void pause() {}

  /** Goes on with another one. */
  default void recover() {}

  /** Ends all threads that bring in pages; nothing is served any more by it when this returns. */
  void stop();

  /** Frees everything; after {@link #stop}, when no fault is served any more. */
  void close();

  /** The load is given up: whoever waits for a source returns. */
  default void interrupt() {}

  /** The last user of something that others use, too, has gone. */
  void letGo();

  /** Cuts the connection to a source; false if there is none. */
  default boolean cut() {
    return false;
  }

  /** A source will come to this address to go on. */
  default void expectRecovery(String uri, Optional<TlsCredentials> tls) throws IOException {
    throw new IOException("only what a migration source sends is recovered");
  }
}
