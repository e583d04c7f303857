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

  /** The source closes at once when it has heard that all is well. */
  private static final long END_PATIENCE_NANOS = 5_000_000_000L;

  private final SourceSession session;
  private final StreamSocket socket;
  private final ReturnPath path;
  private final Thread thread;
  private MigrationReceiver.@Nullable Channel channel;
  private boolean closed;

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
    try {
      if (socket.isTcp()) {
        socket.prepareTcp(TCP_UNSENT_BYTES);
      }
      MigrationReceiver.Channel of = session.receiver().openChannel();
      channel = of;
      PageBuffer first = of.exchange(null, 0, 0);
      ChannelInput in = new ChannelInput(this::receive, first, of);
      read(in, of);
      of.close();
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
      session.received(count);
      return count;
    } catch (IOException e) {
      throw new LostException(e);
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

  private void read(ChannelInput in, MigrationReceiver.Channel of) throws IOException {
    if (!in.fill()) {
      if (session.isListening()) {
        log.debug("a connection has ended that never said anything socket={}", socket.name());
        return;
      }
      throw new LostException(new IOException("the connection ended before anything had come"));
    }
    int magic = in.bytes().getInt(in.require(MAGIC_BYTES, "the first bytes of a connection"));
    if (magic == StreamFormat.MAGIC && !session.isRecovery()) {
      readMain(in, of);
    } else if (magic == MultifdDecoder.MAGIC && !session.isRecovery()) {
      readMultifd(in, of);
    } else if (session.isRecovery() && magic >>> 24 == StreamFormat.TYPE_COMMAND) {
      readMain(in, of);
    } else {
      readUrgent(in, of, magic);
    }
  }

  private void readMain(ChannelInput in, MigrationReceiver.Channel of) throws IOException {
    if (!session.becomeMain(this)) {
      refuse("a second main channel has connected");
      return;
    }
    MainStream stream = session.openStream(this, in, of);
    if (session.isRecovery()) {
      path.open();
      session.owner().reconnected();
    } else {
      stream.readHeader();
    }
    stream.read(path, socket::isQuietFor);
    of.flush();
    session.endOfStream();
  }

  /** A connection that is of no use to this migration, and no harm if others may come. */
  private void refuse(String problem) throws IOException {
    if (!session.isListening()) {
      throw new IOException(problem);
    }
    log.warn("{}: it is closed socket={}", problem, socket.name());
    socket.shutdown();
  }

  private void readMultifd(ChannelInput in, MigrationReceiver.Channel of) throws IOException {
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
  }

  private void readUrgent(ChannelInput in, MigrationReceiver.Channel of, int magic)
      throws IOException {
    MainStream main = session.stream();
    if (main == null || !main.isSwitchedOver()) {
      refuse("a connection begins with 0x%08x, which is no migration".formatted(magic));
      return;
    }
    RamRecordDecoder pages = new RamRecordDecoder(in, session.awaitTable("urgent pages"), of, true);
    pages.forbidDeltas();
    session.urgentChannel(SourceSession.UrgentChannel.OPEN);
    if (pages.decode() == RamRecordDecoder.Stop.CLOSED) {
      // Before its time, unless all has come: what was on its way here is lost.
      session.fail("the connection for urgent pages is lost", true);
    } else {
      session.urgentChannel(SourceSession.UrgentChannel.ENDED);
    }
  }

  @Override
  public void ramAnnounced(RamBlockTable announced) {
    session.announce(announced);
  }

  @Override
  public void switchedOver() {
    session.owner().switchedOver();
  }

  @Override
  public void resumed() {
    session.owner().resumed();
  }

  /** Reads on until the end of the connection, or for a while. */
  void awaitEnd() {
    try (PageBuffer scratch = new PageBuffer()) {
      long deadline = System.nanoTime() + END_PATIENCE_NANOS;
      boolean more = true;
      while (more) {
        more =
            !socket.isQuietFor(Math.max(0, deadline - System.nanoTime()))
                && socket.receive(scratch.address(), PageBuffer.BYTES) > 0;
      }
    } catch (IOException e) {
      log.debug("the source has gone", e);
    }
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
