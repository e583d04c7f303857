package dev.postcopyd.guest;

import dev.postcopyd.page.PageSize;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Who receives a migration stream: the port between a stream load and whoever owns the QEMU at the
 * other end, be it somebody else ({@code stream:URI}) or the daemon through QEMU's monitor.
 *
 * <p>Called on the thread that carries out the load's steps, in the order prepare, awaitGoAhead,
 * awaitReady, connect (once, or twice with a preempt channel), dependsOnUs, and then what happens;
 * {@link #prepareRecovery} and connect again for each recovery. Calls may block; {@link #close} may
 * come from any thread and makes a blocked call fail soon. The notifications must return at once.
 */
public interface PostcopyDestination extends AutoCloseable {
  /** How messages and the log name it, e.g. {@code unix:/run/vm.mig}. */
  String name();

  /**
   * A load begins: whatever can be asked for without waiting is, while the snapshot is read. What
   * comes of it is for {@link #prepare} to judge.
   */
  default void begin() {}

  /**
   * Looks whether the destination can take a machine, and has it begin to wait for the stream,
   * unless the load is held: {@link #awaitGoAhead}. It may not wait yet when this returns: {@link
   * #awaitReady}.
   *
   * @throws IOException if it can't be had or can't take this machine; the message is for the user
   */
  Terms prepare(Offer offer) throws IOException;

  /**
   * For a load that is held: waits until it may go ahead, and has the destination begin to wait for
   * the stream.
   *
   * @return whether it was held
   */
  default boolean awaitGoAhead() throws IOException {
    return false;
  }

  /**
   * Returns when the destination waits for the stream.
   *
   * @param savedRunState the run state when the machine was saved, as globalstate has it, e.g.
   *     {@code paused}; empty if it is not known
   */
  default void awaitReady(Optional<String> savedRunState) throws IOException {}

  /** The device state is about to be sent: soon the guest runs, and depends on this daemon. */
  default void dependsOnUs() {}

  /**
   * Connects: the first call since {@link #prepare} or {@link #prepareRecovery} is the main
   * channel, the second one the preempt channel.
   *
   * @return a connected, blocking stream socket, which the caller owns
   */
  int connect() throws IOException;

  /**
   * Makes a destination whose migration has been interrupted wait for a new connection.
   *
   * @param uri the address that a client has given with migrate-recover; empty to recover where the
   *     load was
   */
  void prepareRecovery(Optional<String> uri) throws IOException;

  /** The destination has its device state: the guest runs, or may be started. */
  void deviceStateLoaded();

  /**
   * The load has failed after the guest was told to run: it waits wherever memory is missing, until
   * a fresh daemon goes on. Must not make that impossible.
   */
  void failed(String reason);

  /**
   * What the destination itself says about the end of its migration, asked once the connection is
   * gone. May take a moment.
   */
  default Optional<String> explanation() {
    return Optional.empty();
  }

  /** Everything has arrived: the destination needs nobody any more. */
  void completed();

  /** Idempotent; safe for any thread. */
  @Override
  void close();

  /** A block of RAM that the snapshot has. */
  record BlockInfo(String name, long lengthBytes) {}

  /**
   * What is to be sent.
   *
   * @param machineType full versioned name, e.g. {@code pc-i440fx-10.0}; empty if the snapshot does
   *     not say
   * @param preemptWanted whether a second channel for requested pages is welcome
   */
  record Offer(Optional<String> machineType, List<BlockInfo> blocks, boolean preemptWanted) {
    public Offer {
      blocks = List.copyOf(blocks);
    }
  }

  /**
   * What the destination asks for.
   *
   * @param hostPageSizes page sizes of the destination's memory by the destination's block name;
   *     what is absent has target pages
   * @param destinationNames the destination's name by the snapshot's name, for blocks that are
   *     called differently there
   * @param preempt whether a second channel is to be opened for requested pages
   * @param extraBlocks blocks of the destination that the snapshot does not have; they were emptied
   *     and are answered with zero pages
   */
  record Terms(
      Map<String, PageSize> hostPageSizes,
      Map<String, String> destinationNames,
      boolean preempt,
      List<String> extraBlocks) {
    /** Target pages, the snapshot's names, one channel. */
    public static final Terms PLAIN = new Terms(Map.of(), Map.of(), false, List.of());

    public Terms {
      hostPageSizes = Map.copyOf(hostPageSizes);
      destinationNames = Map.copyOf(destinationNames);
      extraBlocks = List.copyOf(extraBlocks);
    }
  }
}
