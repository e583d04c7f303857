package dev.postcopyd.source;

import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.stream.ChannelEndedException;
import dev.postcopyd.stream.ChannelInput;
import dev.postcopyd.stream.MultifdDecoder;
import dev.postcopyd.stream.PageBuffer;
import dev.postcopyd.stream.RamRecordDecoder;
import dev.postcopyd.stream.StreamFormat;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One socket of a {@link SourceSession}, and the thread that reads it: finds out by its first bytes
 * what it is, and reads it to its end. Owns the socket.
 */
final class SourceConnection implements MainStream.Observer, AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(SourceConnection.class);
  private static final int MAGIC_BYTES = 4;

  /** Nothing but short messages goes back. */
  private static final int TCP_UNSENT_BYTES = 16 << 10;

  /**
   * How long a connection has for what tells what it is, and a main one for its machine. A source
   * sends it at once; whoever does not must not keep others from coming.
   */
  static final long BEGINNING_NANOS = 10_000_000_000L;

  /** The source closes at once when it has heard that all is well. */
  private static final long END_PATIENCE_NANOS = 5_000_000_000L;

  private final SourceSession session;
  private final StreamSocket socket;
  private final ReturnPath path;
  private final Thread thread;
  private MigrationReceiver.@Nullable Channel channel;
  private boolean closed;
  private boolean multifd;

  /**
   * When what is being read must have come; none later than the beginning, or than the words of a
   * recovery, has a limit.
   */
  private long deadlineNanos;

  private boolean hasDeadline;

  /** Whether the peer has begun to go on with a migration, and not said all for it. */
  private boolean isRecovering;

  SourceConnection(SourceSession session, StreamSocket socket, int number) {
    this.session = session;
    this.socket = socket;
    this.path = new ReturnPath(new Back());
    this.thread = Thread.ofPlatform().name("source-" + number).daemon().unstarted(this::run);
  }

  /** The source's end of the connection is gone, or the network between. */
  private static final class LostException extends IOException {
    private static final long serialVersionUID = 1;

    LostException(IOException cause) {
      super(cause.getMessage(), cause);
    }
  }

  /** The socket in the other direction. */
  private final class Back implements ReturnPath.Sender {
    @Override
    public void send(MemorySegment message) throws IOException {
      try {
        socket.sendFully(message.address(), message.byteSize());
      } catch (IOException e) {
        throw new LostException(e);
      }
    }

    @Override
    public long trySend(MemorySegment message, long fromByte, long toByte) throws IOException {
      return socket.trySend(message.address() + fromByte, toByte - fromByte);
    }

    @Override
    public void failed(IOException cause) {
      session.fail("the connection is lost: " + cause.getMessage(), true);
    }
  }

  void start() {
    thread.start();
  }

  /** The way back on this connection. */
  ReturnPath path() {
    return path;
  }

  /** Ends what the thread waits for. */
  void shutdown() {
    socket.shutdown();
  }

  void join() {
    join(thread);
  }

  private void run() {
    StreamSocket.prepareThread();
    boolean ofUse = true;
    try {
      ofUse = isPrepared() && saysSomething() && read();
      closeChannel();
    } catch (ChannelEndedException e) {
      closeChannel();
      session.fail(String.valueOf(e.getMessage()), true);
    } catch (LostException e) {
      closeChannel();
      session.fail("the connection is lost: " + e.getMessage(), true);
    } catch (IOException e) {
      closeChannel();
      session.fail(String.valueOf(e.getMessage()), false);
    } catch (RuntimeException | Error e) {
      log.error("a channel was stopped by a bug", e);
      closeChannel();
      session.fail("internal error: " + e, false);
    }
    if (!ofUse) {
      session.leave(this);
    }
  }

  private boolean isPrepared() throws IOException {
    try {
      if (socket.isTcp()) {
        socket.prepareTcp(TCP_UNSENT_BYTES);
      }
      return true;
    } catch (IOException e) {
      if (!session.isListening()) {
        throw e;
      }
      log.debug("a connection was gone at once socket={}", socket.name(), e);
      return false;
    }
  }

  /**
   * Waits for the first byte, without memory to receive it into: where anybody may connect, many
   * may do so that say nothing. Only the one connection for urgent pages has a right to silence.
   */
  private boolean saysSomething() throws IOException {
    if (!session.isListening()) {
      return true;
    }
    hasDeadline = true;
    long patienceNanos = session.beginningNanos();
    deadlineNanos = System.nanoTime() + patienceNanos;
    if (!socket.isQuietFor(patienceNanos)) {
      return true;
    }
    if (session.mayBeSilent()) {
      hasDeadline = false;
      return !socket.isQuietFor(-1);
    }
    log.debug("a connection that says nothing is closed socket={}", socket.name());
    return false;
  }

  private void closeChannel() {
    MigrationReceiver.Channel of = channel;
    if (of != null) {
      of.close();
    }
  }

  private long receive(long address, long lengthBytes) throws IOException {
    try {
      if (hasDeadline && socket.isQuietFor(Math.max(0, deadlineNanos - System.nanoTime()))) {
        throw new IOException(
            "nothing has come for %.1f s where a migration begins"
                .formatted(session.beginningNanos() / 1e9));
      }
      long count = socket.receive(address, lengthBytes);
      if (isRecovering) {
        deadlineNanos = System.nanoTime() + session.beginningNanos();
      }
      if (multifd) {
        session.received().addMultifd(count);
      } else {
        session.received().add(count);
      }
      return count;
    } catch (IOException e) {
      throw new LostException(e);
    }
  }

  /** Reads all of it; answers whether it had to do with this migration. */
  private boolean read() throws IOException {
    MigrationReceiver.Channel of = session.receiver().openChannel();
    channel = of;
    ChannelInput in = new ChannelInput(this::receive, of.exchange(null, 0, 0), of);
    int magic;
    try {
      magic = in.bytes().getInt(in.require(MAGIC_BYTES, "the first bytes of a connection"));
    } catch (ChannelEndedException | LostException e) {
      if (!session.isListening()) {
        throw e;
      }
      log.debug("a connection has ended that never said what it is socket={}", socket.name(), e);
      return false;
    }
    boolean isMain =
        session.isRecovery()
            ? magic >>> 24 == StreamFormat.TYPE_COMMAND
            : magic == StreamFormat.MAGIC;
    if (isMain) {
      return readMain(in, of);
    }
    hasDeadline = false;
    if (magic == MultifdDecoder.MAGIC && !session.isRecovery()) {
      return readMultifd(in, of);
    }
    return readUrgent(in, of, magic);
  }

  private boolean readMain(ChannelInput in, MigrationReceiver.Channel of) throws IOException {
    if (!session.becomeMain(this)) {
      return refuse("a second main channel has connected");
    }
    MainStream stream = session.openStream(this, in, of);
    if (session.isRecovery()) {
      path.open();
      // Whoever has taken the source's place and does not go on is not waited for.
      isRecovering = true;
      session.owner().reconnected();
    } else {
      stream.readHeader();
      hasDeadline = false;
    }
    stream.read(path, socket::isQuietFor);
    of.flush();
    session.endOfStream();
    return true;
  }

  /** A connection that is of no use to this migration, and no harm if others may come. */
  private boolean refuse(String problem) throws IOException {
    if (!session.isListening()) {
      throw new IOException(problem);
    }
    log.warn("{}: it is closed socket={}", problem, socket.name());
    return false;
  }

  private boolean readMultifd(ChannelInput in, MigrationReceiver.Channel of) throws IOException {
    if (!session.barrier().mayOpen()) {
      return refuse("a multifd channel came after the migration had begun");
    }
    multifd = true;
    MultifdDecoder packets = new MultifdDecoder(in);
    int number = packets.hello();
    session.barrier().opened();
    log.debug("multifd channel={} socket={}", number, socket.name());
    boolean more = !packets.isAtEnd();
    while (more) {
      if (packets.packet(session.awaitTable("multifd pages"), of)) {
        of.flush();
        session.barrier().channelArrives();
      }
      more = !packets.isAtEnd();
    }
    session.barrier().closed();
    return true;
  }

  /**
   * Reads what may be the connection for urgent pages. Anybody may connect where a guest depends on
   * its source already, and must not cost it that: what does not begin like pages is closed.
   */
  private boolean readUrgent(ChannelInput in, MigrationReceiver.Channel of, int magic)
      throws IOException {
    MainStream main = session.stream();
    if (main == null || !main.isSwitchedOver()) {
      return refuse("a connection begins with 0x%08x, which is no migration".formatted(magic));
    }
    RamRecordDecoder pages = new RamRecordDecoder(in, session.awaitTable("urgent pages"), of, true);
    pages.forbidDeltas();
    if (!pages.beginsWithPage()) {
      return refuse("a connection begins with 0x%08x, which is no page".formatted(magic));
    }
    if (!session.becomeUrgent(this)) {
      return refuse("a second connection for urgent pages has come");
    }
    if (pages.decode() == RamRecordDecoder.Stop.CLOSED) {
      // Before its time, unless all has come: what was on its way here is lost.
      session.fail("the connection for urgent pages is lost", true);
    } else {
      session.endOfUrgent();
    }
    return true;
  }

  @Override
  public void ramAnnounced(RamBlockTable announced) {
    session.announce(announced);
  }

  @Override
  public void switchedOver() {
    session.received().switchedOver();
    session.owner().switchedOver();
  }

  @Override
  public void resumed() {
    isRecovering = false;
    hasDeadline = false;
    session.hasResumed();
  }

  /** Reads on until the end of the connection, or for a while. */
  void awaitEnd() {
    try (PageBuffer scratch = new PageBuffer()) {
      long deadline = System.nanoTime() + END_PATIENCE_NANOS;
      long left = END_PATIENCE_NANOS;
      while (left > 0
          && !socket.isQuietFor(left)
          && socket.receive(scratch.address(), PageBuffer.BYTES) > 0) {
        left = deadline - System.nanoTime();
      }
    } catch (IOException e) {
      log.debug("the source has gone", e);
    }
  }

  /** Ends a connection that nobody knows any more, on its own thread. */
  void closeSocket() {
    socket.close();
  }

  /** Waits for the thread, whose connection has been shut down. */
  @Override
  public void close() {
    if (!closed) {
      closed = true;
      join();
      path.close();
      socket.close();
    }
  }

  /** Waits for the end of a thread, also when interrupted meanwhile. */
  static void join(Thread thread) {
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
}
