package dev.postcopyd.incoming;

import dev.postcopyd.source.MigrationReceiver;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.source.SourceSession;
import java.io.IOException;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;

/**
 * How a load is connected to its migration source: the address that the source comes to, the
 * session that goes on with the one before after the connection was lost, and the address of the
 * next one.
 *
 * <p>Used by the thread of the load's steps; {@link #expect}, {@link #cut}, {@link #giveUp} and
 * what only answers by any. Owns the address, and the sessions.
 */
final class SourceLink {
  private final SourceAddress address;
  private final int multifdChannels;
  private final MigrationReceiver receiver;
  private final SourceSession.Owner owner;
  private final AtomicReference<SourceAddress.@Nullable Open> expected = new AtomicReference<>();
  private volatile @Nullable SourceSession session;
  private volatile OptionalInt port = OptionalInt.empty();
  private boolean addressUsed;

  /**
   * A link that is not open yet.
   *
   * @param multifdChannels how many channels the client has announced; 0: it has not
   */
  SourceLink(
      SourceAddress address,
      int multifdChannels,
      MigrationReceiver receiver,
      SourceSession.Owner owner) {
    this.address = address;
    this.multifdChannels = multifdChannels;
    this.receiver = receiver;
    this.owner = owner;
  }

  SourceAddress address() {
    return address;
  }

  /** The TCP port that is listened on. */
  OptionalInt port() {
    return port;
  }

  /** The latest session, once the source is waited for. */
  Optional<SourceSession> session() {
    return Optional.ofNullable(session);
  }

  /** Bytes received so far. */
  long transferredBytes() {
    SourceSession current = session;
    return current == null ? 0 : current.transferredBytes();
  }

  /** Lets the source connect; it is not accepted yet. */
  void listen() throws IOException {
    SourceAddress.Open open = address.open();
    addressUsed = true;
    port = open.port();
    expected.set(open);
  }

  /** Takes the source from now on. */
  void open() throws IOException {
    if (!addressUsed) {
      listen();
    }
    start(SourceSession.of(openAgain(), multifdChannels, receiver, owner));
  }

  private void start(SourceSession next) {
    session = next;
    next.start();
  }

  /**
   * The source will come to this address to go on: it is listened on from now on.
   *
   * @throws IOException if there is no such address
   */
  void expect(String uri) throws IOException {
    SourceSession before = session;
    if (before != null) {
      before.awaitNotListening();
    }
    SourceAddress at;
    try {
      at = SourceAddress.parse(uri).securedLike(address);
    } catch (IllegalArgumentException e) {
      throw new IOException(e.getMessage(), e);
    }
    SourceAddress.Open open = at.open();
    port = open.port();
    SourceAddress.Open unused = expected.getAndSet(open);
    if (unused != null) {
      unused.close();
    }
  }

  /** Waits for the source to go on where the last session, which is closed, was interrupted. */
  void openNext() throws IOException {
    SourceSession before = session;
    if (before == null) {
      throw new IllegalStateException("nothing has been received that could be gone on with");
    }
    start(before.next(openAgain()));
  }

  private SourceAddress.Open openAgain() throws IOException {
    SourceAddress.Open named = expected.getAndSet(null);
    if (named != null) {
      return named;
    }
    if (address.place() instanceof SourceAddress.Connected) {
      throw new IOException(address + " has been used up: name tcp:HOST:PORT or unix:PATH");
    }
    SourceAddress.Open open = address.open();
    port = open.port();
    return open;
  }

  /** Ends the connection as if the network had; answers whether there is one. */
  boolean cut(String reason) {
    SourceSession current = session;
    if (current != null) {
      current.cut(reason);
    }
    return current != null;
  }

  /** Lets the source keep its guest, or go on with it. */
  void giveUp(String reason) {
    SourceSession current = session;
    if (current != null) {
      current.giveUp(reason);
    }
  }

  /** Closes the session; another one may follow. Its threads have ended when this returns. */
  void closeSession() {
    SourceSession current = session;
    if (current != null) {
      current.close();
    }
  }

  /** Closes everything. */
  void close() {
    closeSession();
    if (!addressUsed) {
      address.discard();
    }
    SourceAddress.Open unused = expected.getAndSet(null);
    if (unused != null) {
      unused.close();
    }
  }
}
