package dev.postcopyd.incoming;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.source.MigrationReceiver;
import dev.postcopyd.source.SourceAddress;
import dev.postcopyd.source.SourceSession;
import dev.postcopyd.source.Traffic;
import dev.postcopyd.tls.TlsCredentials;
import java.io.IOException;
import java.util.Map;
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
  private static final String FD = "fd:";

  private final SourceAddress address;
  private final int multifdChannels;
  private final MigrationReceiver receiver;
  private final SourceSession.Owner owner;
  private final AtomicReference<SourceAddress.@Nullable Open> expected = new AtomicReference<>();
  private volatile @Nullable SourceSession session;
  private volatile SourceAddress place;
  private volatile OptionalInt port = OptionalInt.empty();
  private volatile boolean closed;
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
    this.place = address;
    this.multifdChannels = multifdChannels;
    this.receiver = receiver;
    this.owner = owner;
  }

  /** Where the source came to first, by which the load is known. */
  SourceAddress address() {
    return address;
  }

  /** Where it is waited for now, or was last. */
  SourceAddress place() {
    return place;
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
  Traffic traffic() {
    SourceSession current = session;
    return current == null ? Traffic.NONE : current.traffic();
  }

  /** Lets the source connect; it is not accepted yet. */
  void listen() throws IOException {
    SourceAddress.Open open = address.open();
    addressUsed = true;
    expected.set(noted(address, open));
  }

  private SourceAddress.Open noted(SourceAddress at, SourceAddress.Open open) {
    place = at;
    port = open.port();
    return open;
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
   * @param uri where; {@code fd:N} is a connected socket, which is taken over in any case
   * @param tls with what the source is to encrypt; as before if nothing is said
   * @throws IOException if there is no such address
   */
  void expect(String uri, Optional<TlsCredentials> tls) throws IOException {
    SourceAddress plain = parse(uri);
    SourceAddress at = tls.map(plain::secured).orElseGet(() -> plain.securedLike(address));
    SourceSession before = session;
    if (before != null) {
      before.awaitNotListening();
    }
    discard(expected.getAndSet(noted(at, at.open())));
    if (closed) {
      discard(expected.getAndSet(null));
      throw new IOException("the migration has been given up");
    }
  }

  private static void discard(SourceAddress.@Nullable Open unused) {
    if (unused != null) {
      unused.close();
    }
  }

  private static SourceAddress parse(String uri) throws IOException {
    try {
      return uri.startsWith(FD)
          ? new SourceAddress.Connected(Integer.parseInt(uri.substring(FD.length())), "recovery")
          : SourceAddress.parse(uri);
    } catch (IllegalArgumentException e) {
      throw new IOException(e.getMessage(), e);
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

  /**
   * Waits for the source to go on with what another process has received of it.
   *
   * @param sections the sections that come in parts, by their ids
   */
  void openSwitchedOver(RamBlockTable table, int ramSectionId, Map<Integer, String> sections)
      throws IOException {
    start(
        SourceSession.ofSwitchedOver(openAgain(), table, ramSectionId, sections, receiver, owner));
  }

  private SourceAddress.Open openAgain() throws IOException {
    SourceAddress.Open named = expected.getAndSet(null);
    if (named != null) {
      return named;
    }
    if (address.place() instanceof SourceAddress.Connected) {
      throw new IOException(
          address + " has been used up: name tcp:HOST:PORT, unix:PATH or fd:NAME");
    }
    return noted(address, address.open());
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
    // Whoever names another address from now on finds that it is too late.
    closed = true;
    discard(expected.getAndSet(null));
  }
}
