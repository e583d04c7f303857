package dev.postcopyd.source;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.stream.ChannelInput;
import dev.postcopyd.stream.ReturnPathMessage;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * All connections of one source, from listening to their end: accepts them, finds out by its first
 * bytes what each is (main, multifd, preempt), and reads each on a thread of its own. A migration
 * that is recovered has another session, which goes on with the main stream of the one before.
 *
 * <p>Made and closed by the thread of the load's steps; {@link #cut} may be called from any. Owns
 * its sockets and threads; not the receiver.
 */
public final class SourceSession implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(SourceSession.class);

  private final Owner owner;
  private final MigrationReceiver receiver;
  private final MultifdBarrier barrier;
  private final SourceAcceptor acceptor;
  private final @Nullable SourceSession previous;
  private final ReceivedBytes received;
  private final AnnouncedRam ram = new AnnouncedRam();
  private final AtomicReference<@Nullable String> end = new AtomicReference<>();
  private final OpenConnections connections = new OpenConnections();
  private final AtomicReference<@Nullable SourceConnection> main = new AtomicReference<>();
  private final AtomicReference<@Nullable SourceConnection> urgent = new AtomicReference<>();
  private volatile @Nullable MainStream stream;
  private MainStream.@Nullable Switched restored;
  private volatile boolean ended;
  private volatile UrgentChannel urgentChannel = UrgentChannel.NONE;

  private volatile boolean resumed;
  private volatile long beginningNanos = SourceConnection.BEGINNING_NANOS;

  /** Is told how the migration goes on, on threads of the session. */
  public interface Owner {
    /** There is RAM to come. */
    void ramAnnounced(RamBlockTable table);

    /** The guest was switched over and its devices have come; its RAM goes on coming. */
    void switchedOver();

    /** A source that goes on with an interrupted migration has connected. */
    void reconnected();

    /** It has been told what has come, and sends the rest. */
    void resumed();

    /** Everything has come; the source waits for {@link SourceSession#finish}, or has gone. */
    void ended();

    /** The connection is gone, of a guest that has been switched over. */
    void connectionLost(String reason);

    /** The migration can't be taken. */
    void failed(String reason);
  }

  private SourceSession(
      Owner owner,
      MigrationReceiver receiver,
      MultifdBarrier barrier,
      SourceAddress.Open address,
      @Nullable SourceSession previous) {
    this.owner = owner;
    this.receiver = receiver;
    this.barrier = barrier;
    this.previous = previous;
    this.received = previous == null ? new ReceivedBytes() : previous.received;
    if (previous != null) {
      ram.announce(previous.ram.table());
    }
    this.acceptor = new SourceAcceptor(this, address);
  }

  /**
   * A session that waits for a source; {@link #start} begins it.
   *
   * @param address where the source connects to; belongs to the session
   * @param multifdChannels how many channels the client has announced; 0: it has not
   */
  public static SourceSession of(
      SourceAddress.Open address, int multifdChannels, MigrationReceiver receiver, Owner owner)
      throws IOException {
    SourceSession session =
        new SourceSession(owner, receiver, new MultifdBarrier(multifdChannels), address, null);
    address.connected().ifPresent(socket -> session.add(socket));
    return session;
  }

  /**
   * A session that goes on with a migration whose beginning another process has received.
   *
   * @param table the guest's RAM
   * @param sections the sections that come in parts, by their ids
   */
  public static SourceSession ofSwitchedOver(
      SourceAddress.Open address,
      RamBlockTable table,
      int ramSectionId,
      Map<Integer, String> sections,
      MigrationReceiver receiver,
      Owner owner) {
    SourceSession session =
        new SourceSession(owner, receiver, new MultifdBarrier(0), address, null);
    session.restored = new MainStream.Switched(table, ramSectionId, sections);
    session.ram.announce(table);
    session.received.switchedOver();
    address.connected().ifPresent(socket -> session.add(socket));
    return session;
  }

  /** A session that goes on where this one, which has been closed, was interrupted. */
  public SourceSession next(SourceAddress.Open address) {
    SourceSession session = new SourceSession(owner, receiver, barrier, address, this);
    session.restored = restored;
    address.connected().ifPresent(socket -> session.add(socket));
    return session;
  }

  public void start() {
    // First what is here already: what is accepted is started by whoever accepts it.
    connections.startAll();
    acceptor.start();
  }

  /** How long connections have for saying what they are. */
  void beginWithin(long nanos) {
    beginningNanos = nanos;
  }

  long beginningNanos() {
    return beginningNanos;
  }

  /** How many there are. */
  int connections() {
    return connections.all().size();
  }

  /** Bytes received, of all connections of the migration. */
  public Traffic traffic() {
    return received.look();
  }

  /** Where pages are asked for; only once the guest has been switched over. */
  public PageRequests pageRequests() {
    SourceConnection to = main.get();
    if (to == null) {
      throw new IllegalStateException("no source has connected");
    }
    return to.path();
  }

  /** Whether pages that were asked for come on a connection of their own. */
  public UrgentChannel urgentChannel() {
    UrgentChannel known = urgentChannel;
    if (known == UrgentChannel.NONE) {
      return connections.all().size() > 1 ? UrgentChannel.SILENT : UrgentChannel.NONE;
    }
    return known;
  }

  /** Whether a source has connected, so that the migration has begun. */
  public boolean isConnected() {
    return main.get() != null;
  }

  /** Returns when the address can be listened on by somebody else, which is soon after an end. */
  public void awaitNotListening() {
    if (end.get() != null) {
      acceptor.join();
    }
  }

  @Nullable SourceConnection add(StreamSocket socket) {
    return connections.add(number -> new SourceConnection(this, socket, number));
  }

  /** A connection has failed; one that belongs to a switched-over guest can be gone on with. */
  void fail(String reason, boolean lost) {
    if (ended || !end.compareAndSet(null, reason)) {
      return;
    }
    MainStream of = stream;
    // What comes to a place of recovery may be no source at all: that costs nobody his guest.
    boolean recoverable =
        isRecovery() ? lost || !resumed : lost && of != null && of.isSwitchedOver();
    if (!recoverable) {
      refuse();
    }
    shutDown(reason);
    if (recoverable) {
      owner.connectionLost(reason);
    } else {
      owner.failed(reason);
    }
  }

  /** Tells the source that its guest is not taken: it goes on with it. */
  private void refuse() {
    SourceConnection to = main.get();
    if (to != null) {
      try {
        // Who does not read what is said does not hold up the end.
        to.path().sendLast(new ReturnPathMessage.Shut(1));
      } catch (IOException e) {
        log.debug("the source does not listen any more", e);
      }
    }
  }

  /**
   * The last word: that everything is where it has to be. Afterwards the source gives its guest up.
   */
  public void finish() throws IOException {
    SourceConnection to = main.get();
    if (to != null) {
      to.path().send(new ReturnPathMessage.Shut(0));
    }
  }

  /**
   * Waits until everything that has been received has been handed over. The main channel is the
   * last: multifd's have handed over what they had at the last barrier, one for urgent pages has
   * nothing more to bring; both stay open until the source has heard the last word.
   */
  public void awaitPages() {
    SourceConnection last = main.get();
    if (last != null) {
      last.join();
    }
  }

  /** Waits for a moment until the source has closed its connections, having heard the last word. */
  public void awaitEnd() {
    SourceConnection to = main.get();
    if (to != null) {
      to.awaitEnd();
    }
  }

  /** Ends all connections, as if the network had. */
  public void cut(String reason) {
    fail(reason, true);
  }

  /** Ends all connections and tells nobody but the source. */
  public void giveUp(String reason) {
    if (end.compareAndSet(null, reason)) {
      refuse();
      shutDown(reason);
    }
  }

  private void shutDown(String reason) {
    barrier.breakWith(reason);
    acceptor.stop();
    connections.shutDown();
  }

  @Override
  public void close() {
    end.compareAndSet(null, "the migration has ended");
    shutDown("the migration has ended");
    acceptor.close();
    connections.all().forEach(SourceConnection::close);
  }

  // What connections ask of their session.

  MigrationReceiver receiver() {
    return receiver;
  }

  MultifdBarrier barrier() {
    return barrier;
  }

  Owner owner() {
    return owner;
  }

  ReceivedBytes received() {
    return received;
  }

  /** Whether everything has come. */
  boolean hasEnded() {
    return ended;
  }

  /** Whether others may still connect: then one that is of no use is no trouble. */
  boolean isListening() {
    return acceptor.isListening();
  }

  /** Whether one more may wait for pages that are asked for, and say nothing until then. */
  boolean mayBeSilent() {
    MainStream of = stream;
    return of != null && of.mayBringUrgentPages() && connections.mayBeSilent();
  }

  /** A connection was of no use: what it held is given back, so that others may come. */
  void leave(SourceConnection connection) {
    connections.leave(connection);
  }

  /** The source has been told what has come, and goes on. */
  void hasResumed() {
    resumed = true;
    owner.resumed();
  }

  /** Whether the source has been heard before. */
  boolean isRecovery() {
    return previous != null || restored != null;
  }

  /** The main channel's stream, once there is one. */
  @Nullable MainStream stream() {
    return stream;
  }

  /** Makes a connection the main channel; false if there is one already. */
  boolean becomeMain(SourceConnection connection) {
    return main.compareAndSet(null, connection);
  }

  /** Makes a connection the one for urgent pages; false if there is one already. */
  boolean becomeUrgent(SourceConnection connection) {
    if (!urgent.compareAndSet(null, connection)) {
      return false;
    }
    urgentChannel = UrgentChannel.OPEN;
    return true;
  }

  /** All urgent pages have come. */
  void endOfUrgent() {
    urgentChannel = UrgentChannel.ENDED;
  }

  /** What reads the main channel: a new stream, or the one that was interrupted. */
  MainStream openStream(
      MainStream.Observer observer, ChannelInput in, MigrationReceiver.Channel channel) {
    SourceSession before = previous;
    MainStream opened = before == null ? null : before.stream;
    if (opened == null) {
      opened = new MainStream(receiver, barrier, observer, in, channel);
      MainStream.Switched state = restored;
      if (state != null) {
        opened.restore(state);
      }
    } else {
      opened.continueOn(observer, in, channel);
    }
    stream = opened;
    return opened;
  }

  void announce(RamBlockTable announced) {
    ram.announce(announced);
    owner.ramAnnounced(announced);
  }

  /** A channel with pages may be read before the main one has got so far. */
  RamBlockTable awaitTable(String what) throws IOException {
    return ram.await(what, () -> end.get() != null);
  }

  /** The main channel has been read to its end. */
  void endOfStream() {
    ended = true;
    owner.ended();
  }
}
