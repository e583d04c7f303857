package dev.postcopyd.monitor;

import static dev.postcopyd.posix.abi.PosixConstants.POLLIN;
import static dev.postcopyd.posix.abi.PosixConstants.POLLOUT;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.EventFd;
import dev.postcopyd.posix.FdPassing;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.qmp.codec.FrameBudget;
import dev.postcopyd.qmp.codec.QmpFramer;
import dev.postcopyd.qmp.codec.QmpJson;
import dev.postcopyd.qmp.codec.QmpLimits;
import dev.postcopyd.qmp.codec.QmpMessageReader;
import dev.postcopyd.qmp.codec.QmpParseException;
import dev.postcopyd.qmp.message.Command;
import dev.postcopyd.qmp.message.CommandId;
import dev.postcopyd.qmp.message.Event;
import dev.postcopyd.qmp.message.Failure;
import dev.postcopyd.qmp.message.Greeting;
import dev.postcopyd.qmp.message.QmpException;
import dev.postcopyd.qmp.message.QmpMessage;
import dev.postcopyd.qmp.message.Success;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.net.ProtocolException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/**
 * One connection to QEMU's monitor, from connect to its end.
 *
 * <p>One thread runs {@link #serve}: it reads, and gives answers and events away in the order of
 * their coming. Any thread may {@link #submit}; the command is written at once if the socket takes
 * it, else by the serving thread. What QEMU may say at once is bounded; whatever is no QMP ends the
 * connection. Owns the socket.
 */
final class MonitorConnection implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(MonitorConnection.class);

  /** More than libvirt and qemu.qmp would take; QEMU's schema has a quarter of a MiB. */
  private static final QmpLimits LIMITS = new QmpLimits(16 << 20, 2 << 20, 1 << 10);

  /** One message of the largest size as text and as a tree. */
  private static final long BUDGET_BYTES = 192L << 20;

  private static final int BUFFER_BYTES = 64 << 10;

  /** What comes of a connection; called by the serving thread. */
  interface Listener {
    void greeted(Greeting greeting);

    /** An event, as QEMU wrote it. */
    void event(Event event, ObjectNode message);
  }

  private final Path path;
  private final int socket;
  private final EventFd wakeup;
  private final Poll poll;
  private final PeerCredentials peer;
  private final Listener listener;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment input = arena.allocate(BUFFER_BYTES);
  private final MemorySegment output = arena.allocate(BUFFER_BYTES);
  private final FdPassing receiving = new FdPassing();
  private final FdPassing sending = new FdPassing(1);
  private final int[] unwanted = new int[FdPassing.MAX_FDS_PER_MESSAGE];

  /** Guards what follows, and the sending side of the socket. */
  private final Object lock = new Object();

  private final RequestQueue requests = new RequestQueue();
  private boolean ended;

  // What follows belongs to the serving thread.
  private @Nullable String trouble;

  private MonitorConnection(Path path, int socket, EventFd wakeup, Listener listener)
      throws IOException {
    this.path = path;
    this.socket = socket;
    this.wakeup = wakeup;
    this.listener = listener;
    this.peer = UnixSocket.peerCredentials(socket);
    this.poll = Poll.readable(socket, wakeup.fd());
  }

  /**
   * Connects, without waiting.
   *
   * @param wakeup signalled when something else than the socket wants the serving thread
   */
  static MonitorConnection open(Path path, EventFd wakeup, Listener listener) throws IOException {
    int socket = UnixSocket.tryConnect(path);
    try {
      return new MonitorConnection(path, socket, wakeup, listener);
    } catch (IOException | RuntimeException e) {
      FileDescriptors.close(socket);
      throw e;
    }
  }

  /** Who listens there. */
  PeerCredentials peer() {
    return peer;
  }

  /** A second descriptor of the socket, owned by the caller; -1 if there can be none. */
  int duplicate() {
    synchronized (lock) {
      try {
        return ended ? -1 : FileDescriptors.dup(socket);
      } catch (ErrnoException e) {
        return -1;
      }
    }
  }

  /**
   * Queues a command.
   *
   * @param descriptor goes with it; owned by this object from now on; -1 for none
   */
  CompletableFuture<JsonNode> submit(Command command, int descriptor) {
    MonitorRequest request;
    synchronized (lock) {
      if (ended) {
        if (descriptor >= 0) {
          FileDescriptors.close(descriptor);
        }
        return CompletableFuture.failedFuture(lost(command.name()));
      }
      request = requests.add(command, descriptor);
      if (!write()) {
        wakeup.signal();
      }
    }
    return request.answer();
  }

  /**
   * Reads and writes until the connection ends.
   *
   * @param stop asked after every wake-up
   * @throws IOException how it ended, unless it was told to stop
   */
  void serve(BooleanSupplier stop) throws IOException {
    FrameBudget.Account account = new FrameBudget(BUDGET_BYTES).openAccount();
    try (account;
        QmpFramer framer = new QmpFramer(LIMITS, account, new Receiver())) {
      while (!stop.getAsBoolean()) {
        await();
        if (poll.isReadable(0) || poll.isBroken(0)) {
          receive(framer);
        }
      }
    }
  }

  /** Waits for input, for room while something is to be written, or for a wake-up. */
  private void await() throws IOException {
    boolean done;
    synchronized (lock) {
      done = write();
    }
    poll.events(0, done ? POLLIN : POLLIN | POLLOUT);
    int _ = poll.await(-1);
    boolean _ = wakeup.drain();
  }

  private void receive(QmpFramer framer) throws IOException {
    int count = receiving.receive(socket, input.address(), BUFFER_BYTES, unwanted);
    for (int i = 0; i < receiving.fdCount(); i++) {
      FileDescriptors.close(unwanted[i]);
    }
    if (count == -Errno.EAGAIN) {
      return;
    }
    if (count < 0) {
      throw new IOException("the connection to " + path + " broke: " + Errno.describe(-count));
    }
    if (count == 0) {
      throw new IOException("QEMU has closed the connection to its monitor at " + path);
    }
    framer.feed(ByteBuffer.wrap(input.asSlice(0, count).toArray(ValueLayout.JAVA_BYTE)));
    if (trouble != null) {
      throw new ProtocolException("what listens at " + path + " speaks no QMP: " + trouble);
    }
  }

  /** Writes what the socket takes; true if nothing is left. Under the lock. */
  private boolean write() {
    MonitorRequest request;
    while (!ended && (request = requests.writing()) != null) {
      byte[] line = request.line();
      int length = Math.min(line.length - request.sentBytes(), BUFFER_BYTES);
      MemorySegment.copy(line, request.sentBytes(), output, ValueLayout.JAVA_BYTE, 0, length);
      int sent =
          request.hasDescriptor()
              ? sending.send(socket, output.address(), length, request.descriptor())
              : sending.send(socket, output.address(), length);
      if (sent <= 0) {
        // Full; or broken, which the serving thread will find when it reads.
        return false;
      }
      request.sent(sent);
      if (request.isSent()) {
        requests.written();
      }
    }
    return true;
  }

  private MonitorUnavailableException lost(String command) {
    return new MonitorUnavailableException(
        "the connection to QEMU's monitor at "
            + path
            + " ended before "
            + command
            + " was answered; whether QEMU has carried it out is not known");
  }

  /** Ends the connection; what has no answer gets none. By the serving thread, once. */
  @Override
  public void close() {
    List<MonitorRequest> left;
    synchronized (lock) {
      ended = true;
      left = requests.drain();
      left.forEach(MonitorRequest::closeDescriptor);
      FileDescriptors.close(socket);
      sending.close();
      receiving.close();
      poll.close();
      arena.close();
    }
    for (MonitorRequest request : left) {
      request.answer().completeExceptionally(lost(request.name()));
    }
  }

  /** Gives each message to whoever waits for it. */
  private final class Receiver implements QmpFramer.Sink {
    @Override
    public void complete(byte[] text, int length, FrameBudget.Lease lease) {
      if (trouble != null) {
        lease.close();
        return;
      }
      try (lease) {
        JsonNode json = QmpJson.parseFrame(text, length);
        receive(QmpMessageReader.read(json), json);
      } catch (QmpParseException e) {
        malformed(e.description());
      }
    }

    @Override
    public void malformed(String description) {
      if (trouble == null) {
        trouble = description;
      }
    }

    private void receive(QmpMessage message, JsonNode json) {
      switch (message) {
        case Greeting greeting -> listener.greeted(greeting);
        case Event event -> listener.event(event, (ObjectNode) json);
        case Success(CommandId id, JsonNode value) -> {
          MonitorRequest request = answered(id);
          if (request != null) {
            request.answer().complete(value);
          }
        }
        case Failure failure -> {
          MonitorRequest request = answered(failure.id());
          if (request != null) {
            request
                .answer()
                .completeExceptionally(
                    new QmpException(failure.errorClass(), failure.description()));
          } else if (failure.id() == null) {
            // It could not read a command of ours, and cannot say which.
            malformed(failure.description());
          }
        }
        case Command command -> malformed("a command: " + command.name());
      }
    }

    private @Nullable MonitorRequest answered(@Nullable CommandId id) {
      if (id == null || !id.value().canConvertToLong() || !id.value().isIntegralNumber()) {
        return null;
      }
      synchronized (lock) {
        MonitorRequest request = requests.answered(id.value().longValue());
        if (request == null) {
          LOG.warn("answer to no question path={} id={}", path, id.value());
        } else if (!write()) {
          wakeup.signal();
        }
        return request;
      }
    }
  }
}
