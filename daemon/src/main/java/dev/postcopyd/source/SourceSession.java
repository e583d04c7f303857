package dev.postcopyd.source;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.SocketListener;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.stream.ChannelEndedException;
import dev.postcopyd.stream.ChannelInput;
import dev.postcopyd.stream.MultifdDecoder;
import dev.postcopyd.stream.PageBuffer;
import dev.postcopyd.stream.RamRecordDecoder;
import dev.postcopyd.stream.ReturnPathMessage;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.LongAdder;
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

  /** QEMU's limit of multifd channels, the main one and the one for urgent pages. */
  private static final int MAX_CONNECTIONS = 257;

  private static final int MAGIC_BYTES = 4;

  /** The source closes at once when it has heard that all is well. */
  private static final long END_PATIENCE_NANOS = 5_000_000_000L;

  private final Owner owner;
  private final MigrationReceiver receiver;
  private final MultifdBarrier barrier;
  private final @Nullable SocketListener listener;
  private final @Nullable SourceSession previous;
  private final LongAdder transferredBytes;
  private final AtomicReference<@Nullable String> end = new AtomicReference<>();
  private final List<Connection> connections = new ArrayList<>();
  private final Thread acceptor =
      Thread.ofPlatform().name("source-accept").daemon().unstarted(this::accept);
  private volatile @Nullable Connection main;
  private volatile @Nullable MainStream stream;
  private volatile @Nullable RamBlockTable table;
  private volatile boolean ended;

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
      @Nullable SocketListener listener,
      @Nullable SourceSession previous) {
    this.owner = owner;
    this.receiver = receiver;
    this.barrier = barrier;
    this.listener = listener;
    this.previous = previous;
    this.transferredBytes = previous == null ? new LongAdder() : previous.transferredBytes;
    if (previous != null) {
      table = previous.table;
    }
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
        new SourceSession(
            owner, receiver, new MultifdBarrier(multifdChannels), address.listener(), null);
    address.connected().ifPresent(session::add);
    return session;
  }

  /** A session that goes on where this one, which has been closed, was interrupted. */
  public SourceSession next(SourceAddress.Open address) {
    SourceSession session = new SourceSession(owner, receiver, barrier, address.listener(), this);
    address.connected().ifPresent(session::add);
    return session;
  }

  public void start() {
    if (listener != null) {
      acceptor.start();
    }
    synchronized (connections) {
      connections.forEach(connection -> connection.thread.start());
    }
  }

  /** Bytes received, of all connections of the migration. */
  public long transferredBytes() {
    return transferredBytes.sum();
  }

  /** Whether a source has connected, so that the migration has begun. */
  public boolean isConnected() {
    return main != null;
  }

  private void accept() {
    SocketListener from = listener;
    try {
      while (from != null && !ended) {
        int fd = from.accept(-1);
        if (fd < 0) {
          return;
        }
        synchronized (connections) {
          if (connections.size() == MAX_CONNECTIONS || end.get() != null) {
            log.warn("a connection too many is closed socket={}", from.name());
            FileDescriptors.close(fd);
            continue;
          }
          add(StreamSocket.adopt(fd, from.name())).thread.start();
        }
      }
    } catch (IOException e) {
      fail("connections can no longer be accepted: " + e.getMessage(), false);
    }
  }

  private Connection add(StreamSocket socket) {
    synchronized (connections) {
      Connection connection = new Connection(socket, connections.size());
      connections.add(connection);
      return connection;
    }
  }

  /** A connection has failed; one that belongs to a switched-over guest can be gone on with. */
  private void fail(String reason, boolean lost) {
    if (ended || !end.compareAndSet(null, reason)) {
      return;
    }
    MainStream of = stream;
    boolean recoverable = lost && (previous != null || (of != null && of.isSwitchedOver()));
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
    Connection to = main;
    if (to != null) {
      try {
        to.path.send(new ReturnPathMessage.Shut(1));
      } catch (IOException e) {
        log.debug("the source does not listen any more", e);
      }
    }
  }

  /**
   * The last word: that everything is where it has to be. Afterwards the source gives its guest up.
   */
  public void finish() throws IOException {
    Connection to = main;
    if (to != null) {
      to.path.send(new ReturnPathMessage.Shut(0));
    }
  }

  /**
   * Waits until everything that has been received has been handed over. A channel for urgent pages
   * stays open until the source has heard the last word; it has nothing more to bring.
   */
  public void awaitPages() {
    all().stream()
        .filter(connection -> connection.spoken && !connection.urgent)
        .forEach(connection -> join(connection.thread));
  }

  private List<Connection> all() {
    synchronized (connections) {
      return List.copyOf(connections);
    }
  }

  /** Waits for a moment until the source has closed its connections, having heard the last word. */
  public void awaitEnd() {
    Connection to = main;
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
    SocketListener from = listener;
    if (from != null) {
      from.stop();
    }
    synchronized (connections) {
      connections.forEach(connection -> connection.socket.shutdown());
    }
  }

  @Override
  public void close() {
    end.compareAndSet(null, "the migration has ended");
    shutDown("the migration has ended");
    join(acceptor);
    for (Connection connection : all()) {
      join(connection.thread);
      connection.free();
    }
    if (listener != null) {
      listener.close();
    }
  }

  private static void join(Thread thread) {
    boolean interrupted = false;
    while (thread.isAlive()) {
      try {
        thread.join();
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** The source's end of the connection is gone, or the network between. */
  private static final class LostException extends IOException {
    private static final long serialVersionUID = 1;

    LostException(IOException cause) {
      super(cause.getMessage(), cause);
    }
  }

  /** One socket and its thread. */
  private final class Connection implements MainStream.Observer {
    final StreamSocket socket;
    final ReturnPath path;
    final Thread thread;
    private MigrationReceiver.@Nullable Channel channel;
    private volatile boolean spoken;
    private volatile boolean urgent;
    private boolean freed;

    Connection(StreamSocket socket, int number) {
      this.socket = socket;
      this.path = new ReturnPath(this::sendBack);
      this.thread = Thread.ofPlatform().name("source-" + number).daemon().unstarted(this::run);
    }

    private void run() {
      StreamSocket.prepareThread();
      try {
        MigrationReceiver.Channel of = receiver.openChannel();
        channel = of;
        PageBuffer first = of.exchange(null, 0, 0);
        ChannelInput in = new ChannelInput(this::receive, first, of);
        read(in, of);
        of.close();
      } catch (ChannelEndedException e) {
        closeChannel();
        fail(String.valueOf(e.getMessage()), true);
      } catch (LostException e) {
        closeChannel();
        fail("the connection is lost: " + e.getMessage(), true);
      } catch (IOException e) {
        closeChannel();
        fail(String.valueOf(e.getMessage()), false);
      } catch (RuntimeException | Error e) {
        log.error("a channel was stopped by a bug", e);
        closeChannel();
        fail("internal error: " + e, false);
      }
    }

    private void closeChannel() {
      MigrationReceiver.Channel of = channel;
      if (of != null) {
        of.close();
      }
    }

    private long receive(long address, long lengthBytes) throws IOException {
      try {
        long count = socket.receive(address, lengthBytes);
        transferredBytes.add(count);
        return count;
      } catch (IOException e) {
        throw new LostException(e);
      }
    }

    private void sendBack(byte[] message) throws IOException {
      try {
        socket.sendFully(message);
      } catch (IOException e) {
        throw new LostException(e);
      }
    }

    private boolean isQuietFor(long nanos) throws IOException {
      return socket.isQuietFor(nanos);
    }

    private void read(ChannelInput in, MigrationReceiver.Channel of) throws IOException {
      if (!in.fill()) {
        if (!socketIsTheOnlyOne()) {
          log.debug("a connection has ended that never said anything socket={}", socket.name());
          return;
        }
        throw new LostException(new IOException("the connection ended before anything had come"));
      }
      spoken = true;
      int magic = in.bytes().getInt(in.require(MAGIC_BYTES, "the first bytes of a connection"));
      if (magic == StreamFormat.MAGIC && previous == null) {
        readMain(in, of);
      } else if (magic == MultifdDecoder.MAGIC && previous == null) {
        readMultifd(in, of);
      } else if (previous != null && magic >>> 24 == StreamFormat.TYPE_COMMAND) {
        readMain(in, of);
      } else {
        readUrgent(in, of, magic);
      }
    }

    private boolean socketIsTheOnlyOne() {
      return listener == null;
    }

    private void readMain(ChannelInput in, MigrationReceiver.Channel of) throws IOException {
      MainStream to;
      synchronized (connections) {
        if (main != null) {
          throw new IOException("a second main channel has connected");
        }
        main = this;
      }
      SourceSession before = previous;
      MainStream earlier = before == null ? null : before.stream;
      if (earlier == null) {
        to = new MainStream(receiver, barrier, this, in, of);
        stream = to;
        to.readHeader();
      } else {
        to = earlier;
        to.continueOn(this, in, of);
        stream = to;
        path.open();
        owner.reconnected();
      }
      to.read(path, this::isQuietFor);
      of.flush();
      ended = true;
      owner.ended();
    }

    private void readMultifd(ChannelInput in, MigrationReceiver.Channel of) throws IOException {
      MultifdDecoder packets = new MultifdDecoder(in);
      int number = packets.hello();
      barrier.opened();
      log.debug("multifd channel={} socket={}", number, socket.name());
      boolean more = !packets.isAtEnd();
      while (more) {
        if (packets.packet(knownTable("multifd pages"), of)) {
          of.flush();
          barrier.channelArrives();
        }
        more = !packets.isAtEnd();
      }
      barrier.closed();
    }

    private void readUrgent(ChannelInput in, MigrationReceiver.Channel of, int magic)
        throws IOException {
      urgent = true;
      MainStream reader = stream;
      if (reader == null || !reader.isSwitchedOver()) {
        String problem = "a connection begins with 0x%08x, which is no migration".formatted(magic);
        if (socketIsTheOnlyOne()) {
          throw new IOException(problem);
        }
        log.warn("{}: it is closed socket={}", problem, socket.name());
        socket.shutdown();
        return;
      }
      RamRecordDecoder pages = new RamRecordDecoder(in, knownTable("urgent pages"), of, true);
      pages.forbidDeltas();
      RamRecordDecoder.Stop _ = pages.decode();
    }

    /** A multifd channel may be read before the main one has got so far. */
    private RamBlockTable knownTable(String what) throws IOException {
      synchronized (connections) {
        while (table == null && end.get() == null) {
          try {
            connections.wait(100);
          } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
          }
        }
      }
      RamBlockTable known = table;
      if (known == null) {
        throw new IOException(what + " have come, but no RAM list");
      }
      return known;
    }

    @Override
    public void ramAnnounced(RamBlockTable announced) {
      synchronized (connections) {
        table = announced;
        connections.notifyAll();
      }
      owner.ramAnnounced(announced);
    }

    @Override
    public void switchedOver() {
      owner.switchedOver();
    }

    @Override
    public void resumed() {
      owner.resumed();
    }

    /** Reads on until the end of the connection, for so long. */
    private void awaitEnd() {
      try {
        long deadline = System.nanoTime() + END_PATIENCE_NANOS;
        try (PageBuffer scratch = new PageBuffer()) {
          while (!socket.isQuietFor(Math.max(0, deadline - System.nanoTime()))
              && socket.receive(scratch.address(), PageBuffer.BYTES) > 0) {}
        }
      } catch (IOException e) {
        log.debug("the source has gone", e);
      }
    }

    private void free() {
      if (!freed) {
        freed = true;
        socket.close();
      }
    }
  }
}
