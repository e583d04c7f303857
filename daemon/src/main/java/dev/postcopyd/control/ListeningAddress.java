package dev.postcopyd.control;

import dev.postcopyd.incoming.SnapshotLoad;
import dev.postcopyd.qmp.schema.InetSocketAddress;
import dev.postcopyd.qmp.schema.SocketAddress;
import dev.postcopyd.qmp.schema.UnixSocketAddress;
import dev.postcopyd.source.SourceAddress;
import java.util.Optional;
import java.util.OptionalInt;

/** Where a load waits for its migration source, as query-migrate tells it. Stateless. */
final class ListeningAddress {
  private ListeningAddress() {}

  /** The address, with the port that the kernel chose; empty if nobody is waited for. */
  static Optional<SocketAddress> of(SnapshotLoad load) {
    return load.sourceAddress().flatMap(address -> of(address, load.listeningPort()));
  }

  static Optional<SocketAddress> of(SourceAddress address, OptionalInt port) {
    return switch (address.place()) {
      case SourceAddress.Tcp tcp when port.isPresent() ->
          Optional.of(
              new InetSocketAddress(
                  tcp.host().isEmpty() ? "0.0.0.0" : tcp.host(),
                  Integer.toString(port.getAsInt()),
                  null,
                  null,
                  null,
                  null,
                  null,
                  null));
      case SourceAddress.Unix unix ->
          Optional.of(new UnixSocketAddress(unix.path().toString(), null, null));
      default -> Optional.empty();
    };
  }
}
