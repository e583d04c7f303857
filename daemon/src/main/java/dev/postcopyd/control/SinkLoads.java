package dev.postcopyd.control;

import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.incoming.SinkMigration;
import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.loader.Loader;
import dev.postcopyd.outgoing.SaveTarget;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.schema.MigrationCapability;
import dev.postcopyd.sink.SinkSettings;
import dev.postcopyd.sink.SnapshotSink;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Optional;

/**
 * Migrations that are received into a snapshot file, each into the same one.
 *
 * @param path where it is to be
 * @param settings what may wait for its disk
 * @param recoversByItself whether a lost source is listened for again without being asked to
 * @param tls with what sources are to encrypt, if no client says otherwise
 */
public record SinkLoads(
    Path path,
    SinkSettings settings,
    boolean recoversByItself,
    Optional<TlsCredentials> tls,
    Loader loader)
    implements GuestLoads {
  @Override
  public String guestName() {
    return "file";
  }

  @Override
  public boolean isOurs() {
    return false;
  }

  @Override
  public boolean receives() {
    return true;
  }

  @Override
  public boolean takesTls() {
    return true;
  }

  /** The load takes the descriptor over. */
  @Override
  public String recoveryAddress(String uri, NamedDescriptors descriptors) throws QmpException {
    return RecoveryAddress.of(uri, descriptors);
  }

  @Override
  public SnapshotLoad create(Order order) throws QmpException {
    throw new QmpException(
        "the guest 'file' is filled by a migration, and not from "
            + order.uri()
            + ": use tcp:HOST:PORT, unix:PATH or fd:NAME");
  }

  @Override
  public SnapshotLoad receive(Reception reception) {
    MigrationSettings.View view = reception.settings();
    SaveTarget target = SaveTarget.atPath(path, 0).direct(view.parameters().directIo());
    int channels =
        view.isEnabled(MigrationCapability.MULTIFD)
            ? Math.toIntExact(view.parameters().multifdChannels())
            : 0;
    return new SinkMigration(
        reception.address().securedIfPlain(tls),
        channels,
        recoversByItself,
        new SnapshotSink(target, settings),
        loader);
  }

  /**
   * A migration that an earlier daemon has begun to receive, of a guest that was switched over.
   *
   * @param address where its source is to come to, if nobody says otherwise
   * @throws IOException if what was left behind is damaged
   */
  public Optional<SinkMigration> begunBefore(SourceAddress address) throws IOException {
    SnapshotSink sink = new SnapshotSink(SaveTarget.atPath(path, 0), settings);
    return sink.leftBehind()
        .map(left ->
            SinkMigration.begunBefore(
                address.securedIfPlain(tls), left, recoversByItself, sink, loader));
  }
}
