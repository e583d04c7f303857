package dev.postcopyd.incoming;

import dev.postcopyd.guest.LocalGuest;
import dev.postcopyd.loader.Load;
import dev.postcopyd.postcopy.Blocktime;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.snapshot.MachineState;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;

/**
 * A load of a snapshot as those see it who ask for it and look at it, whatever guest it fills. All
 * methods but {@link Load}'s steps may be called from any thread.
 */
public interface SnapshotLoad extends Load {
  /**
   * Completes when the file has been opened; with the IOException if it could not be, after the
   * load has failed for it. So whoever asked for the load can be told at once.
   */
  CompletableFuture<@Nullable Void> opened();

  /**
   * Lets whoever waits for {@link #opened} go, because the load is being cancelled: the open itself
   * may be waiting for a server that does not answer. Without effect once it is open.
   */
  void giveUpOpening();

  /** The engine, once all RAM is ready; it stays readable after the load. */
  Optional<PostcopyEngine> engine();

  /** What has become of RAM, once it is known how much there is. */
  default Optional<RamFigures> ram() {
    return engine().map(SnapshotLoad::ramOf);
  }

  /** What an engine has brought in. */
  static RamFigures ramOf(PostcopyEngine engine) {
    long total = engine.table().totalBytes();
    long data = engine.progress().dataBytes();
    long zero = engine.progress().zeroBytes();
    return new RamFigures(
        total, data, zero, Math.max(0, total - data - zero), data, engine.progress().faults());
  }

  /** How long the guest's threads have waited for pages, if any can. */
  default Optional<Blocktime.Figures> blocktime() {
    return mode() == Mode.LAZY ? engine().map(PostcopyEngine::blocktime) : Optional.empty();
  }

  /** Where a migration source comes to, if there is one. */
  default Optional<SourceAddress> sourceAddress() {
    return Optional.empty();
  }

  /** The TCP port on which a source is waited for. */
  default OptionalInt listeningPort() {
    return OptionalInt.empty();
  }

  /** Whether everything has been given back, with or without success. */
  boolean isReleased();

  /** The guest's memory, if the daemon has it: from when it is ready until it is released. */
  Optional<LocalGuest> guest();

  /** What the snapshot says of the machine; empty before the load and for raw memory. */
  Optional<MachineState> machineState();

  /**
   * Cuts the connection to a running guest on a user's demand; the load is paused then. Never
   * blocks.
   *
   * @return false if there is no connection to cut
   */
  default boolean cutConnection() {
    return false;
  }

  /**
   * Makes ready for a recovery that is about to be asked for, so that whoever asked for it can let
   * the other side begin. From any thread; waits for no peer.
   *
   * @param uri where the other side waits, or comes to
   * @param tls with what a source is to encrypt; as before if nothing is said
   * @throws IOException if there can be none
   */
  default void expectRecovery(String uri, Optional<TlsCredentials> tls) throws IOException {}

  /** Whether the guest ran when it was saved; raw memory does not say, and counts as running. */
  boolean savedRunning();
}
