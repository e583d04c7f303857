package dev.postcopyd.control;

import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.incoming.SnapshotLocation;
import dev.postcopyd.loader.Load;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.source.SourceAddress;
import java.util.Optional;

/** Makes the loads of one kind of guest. Called by the dispatcher's thread. */
public interface GuestLoads {
  /** The guest as the user knows it, for messages: e.g. {@code memory}. */
  String guestName();

  /** Whether the guest is the daemon's own: there to be saved, stopped and continued. */
  boolean isOurs();

  /**
   * Whether a client's exit-on-error is about the guest's own process, and not about the daemon.
   */
  default boolean exitsByItself() {
    return false;
  }

  /**
   * A new load.
   *
   * @throws QmpException if this guest can't be loaded so; the location is still the caller's then
   */
  SnapshotLoad create(Order order) throws QmpException;

  /**
   * A load that an earlier daemon has begun and that is to be recovered.
   *
   * @throws QmpException if there can't be one; the location is still the caller's then
   */
  default SnapshotLoad goOn(Order order) throws QmpException {
    throw new QmpException("the guest '" + guestName() + "' has no load to go on with");
  }

  /**
   * A load of what a migration source sends.
   *
   * @throws QmpException if this guest takes none; the address is still the caller's then
   */
  default SnapshotLoad receive(Reception reception) throws QmpException {
    throw new QmpException(
        "the guest '"
            + guestName()
            + "' is loaded from a snapshot, and not by the migration "
            + reception.address()
            + ": use file: or fd:");
  }

  /** Whether a handed-over descriptor is a migration source's socket, and not a snapshot. */
  default boolean receives() {
    return false;
  }

  /** Whether what is received may be encrypted. */
  default boolean takesTls() {
    return false;
  }

  /**
   * What a client asks to be received.
   *
   * @param address where the source comes to
   */
  record Reception(SourceAddress address, MigrationSettings.View settings) {}

  /**
   * The address of a client's migrate-recover as the load needs it: a name becomes the descriptor
   * that the client has handed over by it.
   *
   * @throws QmpException if there is none
   */
  default String recoveryAddress(String uri, NamedDescriptors descriptors) throws QmpException {
    return uri;
  }

  /**
   * Nobody will recover from this address, which {@link #recoveryAddress} has returned. Without
   * effect where the load owns it from {@link SnapshotLoad#expectRecovery} on.
   */
  default void discardRecoveryAddress(String address) {}

  /**
   * What a client asks for.
   *
   * @param uri the snapshot's, as messages name it
   * @param descriptors the client's own
   * @param exitOnError what the client says about the end of a load that fails
   */
  record Order(
      Load.Mode mode,
      String uri,
      SnapshotLocation location,
      MigrationSettings.View settings,
      NamedDescriptors descriptors,
      Optional<Boolean> exitOnError) {}

  /** No loads of this kind: a guest that has commands of its own for them. */
  static GuestLoads none(String guestName) {
    return new GuestLoads() {
      @Override
      public String guestName() {
        return guestName;
      }

      @Override
      public boolean isOurs() {
        return false;
      }

      @Override
      public SnapshotLoad create(Order order) throws QmpException {
        throw new QmpException("the guest '" + guestName + "' is not loaded so");
      }
    };
  }
}
