package dev.postcopyd.control;

import dev.postcopyd.fds.NamedDescriptors;
import dev.postcopyd.qmp.codec.FrameBudget;
import dev.postcopyd.qmp.codec.QmpFrame;
import dev.postcopyd.qmp.codec.QmpFramer;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpMessageWriter;
import dev.postcopyd.qmp.codec.QmpParseException;
import dev.postcopyd.qmp.codec.QmpRequest;
import dev.postcopyd.qmp.message.Greeting;
import dev.postcopyd.qmp.message.QmpMessage;
import io.netty.buffer.ByteBuf;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.socket.ChannelInputShutdownEvent;
import io.netty.handler.codec.DecoderException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLException;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One client: its negotiation, its parser, its queue, its descriptors.
 *
 * <p>Input is taken on the I/O thread, byte by byte while there is room for a request, so that a
 * client never makes the daemon hold more than a queue's worth and one read. In-band requests go to
 * the {@link CommandDispatcher}; out-of-band ones run at once, here. Answers and events may be sent
 * from any thread and leave in the order of their sending.
 *
 * <p>A client that shuts down its sending side still gets the answers to all that it sent, and is
 * then disconnected. Ends with its channel; then everything it holds is released.
 */
final class QmpSession extends ChannelInboundHandlerAdapter implements QmpFramer.Sink {
  private static final Logger LOG = LoggerFactory.getLogger(QmpSession.class);

  /** With so much unread output, no further request is taken. */
  private static final int PAUSE_UNREAD_BYTES = 256 << 10;

  /** So many out-of-band commands may wait for somebody else's answer. */
  private static final int MAX_OUT_OF_BAND = 8;

  private final QmpServer server;
  private final Channel channel;
  private final String client;
  private final CommandDispatcher.RequestQueue queue = new CommandDispatcher.RequestQueue();
  private final NamedDescriptors descriptors = new NamedDescriptors();
  private final DescriptorInbox inbox = new DescriptorInbox();

  private final SessionOutput output;
  private final RequestExecution execution;

  /** Held while the answer that ends the negotiation is sent, and while an event is. */
  private final Object negotiation = new Object();

  private volatile boolean negotiated;
  private volatile boolean oobEnabled;

  /** Out-of-band commands that have no answer yet. */
  private final AtomicInteger outOfBand = new AtomicInteger();

  private final List<Runnable> atEnd = new CopyOnWriteArrayList<>();

  // What follows belongs to the I/O thread.
  private final FrameBudget.Account account;
  private final QmpFramer framer;
  private @Nullable ReceivedDescriptors arrived;
  private @Nullable ByteBuf input;
  private ByteBuffer inputBytes = ByteBuffer.allocate(0);
  private boolean greeted;
  private boolean reported;
  private boolean pumping;
  private boolean inputEnded;
  private boolean ending;

  QmpSession(QmpServer server, Channel channel, String client, FrameBudget.Account account) {
    this.server = server;
    this.channel = channel;
    this.client = client;
    this.execution = new RequestExecution(server, this);
    this.output = new SessionOutput(server, channel, client, this::outputTaken);
    this.account = account;
    this.framer = new QmpFramer(server.settings().limits(), account, this);
  }

  String client() {
    return client;
  }

  /** The connection, to be closed or waited for. */
  Channel channel() {
    return channel;
  }

  CommandDispatcher.RequestQueue queue() {
    return queue;
  }

  NamedDescriptors descriptors() {
    return descriptors;
  }

  DescriptorInbox inbox() {
    return inbox;
  }

  boolean isNegotiated() {
    return negotiated;
  }

  boolean isOobEnabled() {
    return oobEnabled;
  }

  /** How many bytes of output the client has not read. */
  long unreadBytes() {
    return output.unreadBytes();
  }

  boolean isAbandoned() {
    return output.isAbandoned();
  }

  // Input.

  @Override
  public void channelActive(ChannelHandlerContext ctx) {
    LOG.debug("client connected client={}", client);
    var _ =
        server
            .greeting()
            .thenAccept(greeting -> {
              if (channel.eventLoop().inEventLoop()) {
                greet(greeting);
              } else {
                channel.eventLoop().execute(() -> greet(greeting));
              }
            });
  }

  private void greet(Greeting greeting) {
    send(QmpMessageWriter.write(greeting));
    greeted = true;
    pump();
  }

  @Override
  public void channelRead(ChannelHandlerContext ctx, Object message) {
    if (message instanceof ReceivedDescriptors newer) {
      releaseArrived();
      arrived = newer;
    } else {
      // One read() brings one buffer, and there is no read() before the last one is used up.
      ByteBuf bytes = (ByteBuf) message;
      input = bytes;
      inputBytes = bytes.nioBuffer();
      pump();
    }
  }

  @Override
  public void userEventTriggered(ChannelHandlerContext ctx, Object event) {
    if (event == ChannelInputShutdownEvent.INSTANCE) {
      inputEnded = true;
      pump();
    }
  }

  /** Takes as much input as there is room for, then asks for more or ends. */
  private void pump() {
    if (pumping || !greeted || !channel.isActive()) {
      return;
    }
    pumping = true;
    try {
      takeInput();
    } finally {
      pumping = false;
    }
    if (input == null && channel.isActive()) {
      if (inputEnded) {
        endIfDone(server.dispatcher().isIdle(this) && outOfBand.get() == 0);
      } else if (hasRoom()) {
        channel.read();
      }
    }
  }

  private void takeInput() {
    int end = inputBytes.limit();
    while (inputBytes.hasRemaining() && hasRoom()) {
      reported = false;
      while (!reported && inputBytes.hasRemaining()) {
        inputBytes.limit(inputBytes.position() + 1);
        framer.feed(inputBytes);
        inputBytes.limit(end);
      }
    }
    if (!inputBytes.hasRemaining()) {
      releaseInput();
    }
  }

  private boolean hasRoom() {
    return !ending
        && unreadBytes() < PAUSE_UNREAD_BYTES
        && outOfBand.get() < MAX_OUT_OF_BAND
        && server.dispatcher().hasRoom(this);
  }

  @Override
  public void complete(byte[] text, int length, FrameBudget.Lease lease) {
    QmpFrame frame;
    try {
      frame = new QmpFrame.Complete(QmpJson.parseFrame(text, length), lease);
    } catch (QmpParseException e) {
      lease.close();
      frame = new QmpFrame.Malformed(e.description());
    }
    received(new QmpRequest(frame));
  }

  @Override
  public void malformed(String description) {
    received(new QmpRequest(new QmpFrame.Malformed(description)));
  }

  private void received(QmpRequest request) {
    reported = true;
    if (request.isOutOfBand()) {
      outOfBand.incrementAndGet();
      execution.run(
          request,
          new CommandContext(this, true),
          () -> {
            outOfBand.decrementAndGet();
            roomChanged();
          });
    } else {
      ReceivedDescriptors own = arrived;
      arrived = null;
      server.dispatcher().enqueue(this, new QueuedRequest(request, own));
    }
  }

  /** There may be room for another request now. Any thread. */
  void roomChanged() {
    try {
      channel.eventLoop().execute(this::pump);
    } catch (RejectedExecutionException e) {
      LOG.debug("the I/O thread has ended client={}", client);
    }
  }

  // Commands.

  /**
   * Executes an in-band request on the dispatcher's thread and closes it.
   *
   * @param done called when the answer is on its way, on any thread
   */
  void execute(QueuedRequest queued, Runnable done) {
    ReceivedDescriptors own = queued.descriptors();
    if (own != null) {
      inbox.replace(own);
    }
    execution.run(queued.request(), new CommandContext(this, false), done);
  }

  /** Sends an answer, and does what comes after it. Any thread. */
  void answer(QmpMessage answer, CommandContext context) {
    byte[] line = QmpMessageWriter.write(answer);
    synchronized (negotiation) {
      send(line);
      context
          .negotiatedOob()
          .ifPresent(withOob -> {
            oobEnabled = withOob;
            negotiated = true;
          });
    }
    context.runAfterReply();
  }

  /** Runs something when the client is gone; at once if it is. Any thread. */
  void atEnd(Runnable action) {
    atEnd.add(action);
    if (!channel.isOpen() && atEnd.remove(action)) {
      action.run();
    }
  }

  // Output.

  /** Sends an event if the client has finished its negotiation. Any thread. */
  void sendEvent(byte[] line) {
    // No event before the answer that ends the negotiation, none lost after it.
    synchronized (negotiation) {
      if (negotiated) {
        send(line);
      }
    }
  }

  /** Sends a message, which must not be changed any more. Any thread. */
  void send(byte[] line) {
    output.send(line);
  }

  private void outputTaken() {
    if (ending) {
      endIfDone(true);
    } else {
      pump();
    }
  }

  /** Disconnects a client that does not read. Any thread. */
  void abandon() {
    output.abandon();
  }

  // The end.

  /** Takes no more requests, and disconnects once everything is sent. Any thread. */
  void endAfterOutput() {
    try {
      channel
          .eventLoop()
          .execute(() -> {
            ending = true;
            endIfDone(true);
          });
    } catch (RejectedExecutionException e) {
      LOG.debug("the I/O thread has ended client={}", client);
    }
  }

  private void endIfDone(boolean requestsAnswered) {
    if (requestsAnswered && unreadBytes() == 0) {
      var _ = channel.close();
    }
  }

  @Override
  public void channelInactive(ChannelHandlerContext ctx) {
    LOG.debug("client disconnected client={}", client);
    server.ended(this);
    server.dispatcher().drop(this);
    framer.close();
    account.close();
    releaseInput();
    releaseArrived();
    inbox.close();
    descriptors.close();
    for (Runnable action : List.copyOf(atEnd)) {
      if (atEnd.remove(action)) {
        action.run();
      }
    }
  }

  @Override
  public void exceptionCaught(ChannelHandlerContext ctx, Throwable cause) {
    if (cause instanceof IOException) {
      LOG.debug("connection lost client={} cause={}", client, cause.getMessage());
    } else if (cause instanceof DecoderException && cause.getCause() instanceof SSLException) {
      LOG.warn("client refused client={} reason=\"{}\"", client, cause.getCause().getMessage());
    } else {
      LOG.error("connection failed by a bug client={}", client, cause);
    }
    var _ = channel.close();
  }

  private void releaseInput() {
    if (input != null) {
      input.release();
      input = null;
      inputBytes = ByteBuffer.allocate(0);
    }
  }

  private void releaseArrived() {
    if (arrived != null) {
      arrived.release();
      arrived = null;
    }
  }
}
