package dev.postcopyd.control;

import static java.nio.charset.StandardCharsets.US_ASCII;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.UnixSocket;
import dev.postcopyd.qmp.codec.FrameBudget;
import dev.postcopyd.qmp.codec.QmpMessageWriter;
import dev.postcopyd.qmp.message.Failure;
import dev.postcopyd.qmp.message.Greeting;
import dev.postcopyd.qmp.schema.EventSpec;
import dev.postcopyd.tls.TlsCredentials;
import io.netty.channel.EventLoop;
import io.netty.channel.IoEventLoop;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.epoll.EpollIoHandler;
import io.netty.channel.unix.DomainSocketAddress;
import io.netty.channel.unix.Socket;
import io.netty.handler.ssl.SslHandler;
import io.netty.util.concurrent.FastThreadLocalThread;
import java.io.IOException;
import java.net.SocketAddress;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Serves QMP on any number of sockets, to any number of clients at once.
 *
 * <p>QEMU's monitor serves one client; here each has its own negotiation, parser, queue and
 * descriptor names, and all of them get all events. Two threads: one for I/O and out-of-band
 * commands, one for in-band commands.
 *
 * <p>Safe for any thread. {@link #close()} lets the command under way finish, sends what is to be
 * sent while clients take it, and removes the sockets.
 */
public final class QmpServer implements EventSink, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(QmpServer.class);

  private static final int HANDSHAKE_MILLIS = 5_000;
  private static final int CLOSE_OUTPUT_MILLIS = 2_000;
  private static final int CLOSE_THREAD_SECONDS = 2;

  private final QmpServerSettings settings;
  private final CommandTable commands;
  private final Supplier<CompletionStage<Greeting>> greeting;
  private final CommandDispatcher dispatcher = new CommandDispatcher();
  private final FrameBudget inputBudget;
  private final Set<QmpSession> sessions = ConcurrentHashMap.newKeySet();
  private final AtomicLong totalUnreadBytes = new AtomicLong();
  private final Object eventOrder = new Object();
  private final MultiThreadIoEventLoopGroup group;
  private final IoEventLoop loop;
  private final SocketBuffers buffers = new SocketBuffers();
  private final List<Acceptor> acceptors = new ArrayList<>();
  private final List<SocketAddress> addresses = new ArrayList<>();
  private boolean started;
  private boolean closed;

  /** Makes a server that does not listen yet, so that handlers can be given their event sink. */
  public QmpServer(QmpServerSettings settings, CommandTable commands) {
    this(settings, commands, greetingWith(new Greeting(settings.version(), List.of(Greeting.OOB))));
  }

  /**
   * Makes a server whose greeting is somebody else's.
   *
   * @param greeting asked for every client, which hears nothing before it is complete
   */
  public QmpServer(
      QmpServerSettings settings,
      CommandTable commands,
      Supplier<CompletionStage<Greeting>> greeting) {
    this.settings = settings;
    this.commands = commands;
    this.greeting = greeting;
    this.inputBudget = new FrameBudget(settings.inputBudgetBytes());
    ThreadFactory threads = QmpServer::ioThread;
    this.group = new MultiThreadIoEventLoopGroup(1, threads, EpollIoHandler.newFactory());
    this.loop = group.next();
  }

  private static Supplier<CompletionStage<Greeting>> greetingWith(Greeting always) {
    CompletionStage<Greeting> known = CompletableFuture.completedStage(always);
    return () -> known;
  }

  private static Thread ioThread(Runnable task) {
    Thread thread = new FastThreadLocalThread(task, "postcopyd-qmp-io");
    thread.setDaemon(true);
    return thread;
  }

  /**
   * Starts to listen on all the sockets. May resolve host names.
   *
   * @throws IOException if one of them cannot be opened; then none is, and the server is closed
   * @throws IllegalStateException if a command of the schema has no handler
   */
  public synchronized void start(List<SocketSpec> specs) throws IOException {
    if (started || closed) {
      throw new IllegalStateException("a server starts once");
    }
    List<String> missing = commands.missing();
    if (!missing.isEmpty()) {
      throw new IllegalStateException("no handler for " + missing);
    }
    started = true;
    dispatcher.start();
    try {
      for (SocketSpec spec : specs) {
        ListeningSocket listening = ListeningSocket.open(spec);
        addresses.add(listening.address());
        acceptors.add(Acceptor.start(listening, loop, fd -> accepted(fd, listening)));
        LOG.info("qmp listening socket={} address={}", spec, listening.address());
      }
    } catch (IOException | RuntimeException e) {
      close();
      throw e;
    }
  }

  /** Where it listens, in the order of the specs, with the ports that the kernel chose. */
  public synchronized List<SocketAddress> addresses() {
    return List.copyOf(addresses);
  }

  /** How many clients are connected. */
  public int connections() {
    return sessions.size();
  }

  @Override
  public <D> void emit(EventSpec<D> event, D data) {
    // One at a time, so that every client sees the same order.
    synchronized (eventOrder) {
      broadcast(QmpMessageWriter.write(event.event(data, Instant.now())));
    }
  }

  /**
   * Sends an event as somebody else has made it.
   *
   * @param line the whole message with its line end; not changed any more
   */
  void broadcast(byte[] line) {
    synchronized (eventOrder) {
      sessions.forEach(session -> session.sendEvent(line));
    }
  }

  /** Disconnects everybody who is connected now, once they have got what there is to get. */
  void endSessionsAfterOutput() {
    sessions.forEach(QmpSession::endAfterOutput);
  }

  QmpServerSettings settings() {
    return settings;
  }

  CommandTable commands() {
    return commands;
  }

  CommandDispatcher dispatcher() {
    return dispatcher;
  }

  CompletionStage<Greeting> greeting() {
    return greeting.get();
  }

  /** What all clients together have not read has changed by so many bytes. Any thread. */
  void unreadChanged(long bytes) {
    if (totalUnreadBytes.addAndGet(bytes) > settings.maxTotalUnreadBytes() && bytes > 0) {
      abandonWorst();
    }
  }

  private void abandonWorst() {
    // One at a time, each looking at what the one before has left.
    synchronized (totalUnreadBytes) {
      if (totalUnreadBytes.get() > settings.maxTotalUnreadBytes()) {
        sessions.stream()
            .filter(session -> !session.isAbandoned())
            .max(Comparator.comparingLong(QmpSession::unreadBytes))
            .ifPresent(QmpSession::abandon);
      }
    }
  }

  void ended(QmpSession session) {
    sessions.remove(session);
  }

  private void accepted(int fd, ListeningSocket listening) {
    Socket socket = new Socket(fd);
    if (sessions.size() >= settings.maxConnections()) {
      refuse(socket, listening);
      return;
    }
    try {
      SocketAddress peer = peer(socket, listening);
      FdPassingChannel channel = new FdPassingChannel(fd, listening.address(), peer, buffers);
      channel.config().setAutoRead(false);
      QmpSession session =
          new QmpSession(this, channel, listening.spec() + " " + peer, inputBudget.openAccount());
      sessions.add(session);
      // Nothing is read, and no descriptor taken, before the client has shown its certificate.
      listening.tls().ifPresent(tls -> channel.pipeline().addLast(tlsHandler(tls)));
      channel.pipeline().addLast(session);
      var _ =
          ((EventLoop) loop)
              .register(channel)
              .addListener(registered -> {
                if (!registered.isSuccess()) {
                  LOG.error("connection not registered", registered.cause());
                  sessions.remove(session);
                }
              });
    } catch (IOException | RuntimeException e) {
      LOG.warn("connection not served socket={} cause={}", listening.spec(), e.getMessage());
      FileDescriptors.close(fd);
    }
  }

  private static SslHandler tlsHandler(TlsCredentials tls) {
    SslHandler handler = new SslHandler(tls.engine(null));
    handler.setHandshakeTimeoutMillis(HANDSHAKE_MILLIS);
    return handler;
  }

  private static SocketAddress peer(Socket socket, ListeningSocket listening) throws IOException {
    if (listening.isTcp()) {
      socket.setTcpNoDelay(true);
      socket.setKeepAlive(true);
      SocketAddress remote = socket.remoteAddress();
      if (remote == null) {
        throw new IOException("the client is gone already");
      }
      return remote;
    }
    PeerCredentials credentials = UnixSocket.peerCredentials(socket.intValue());
    return new DomainSocketAddress("pid=%d uid=%d".formatted(credentials.pid(), credentials.uid()));
  }

  /** Says why, as well as that is possible without waiting, and hangs up. */
  private void refuse(Socket socket, ListeningSocket listening) {
    LOG.warn(
        "connection refused socket={} reason=too-many-clients limit={}",
        listening.spec(),
        settings.maxConnections());
    Failure failure =
        Failure.generic(
            null, "too many clients: at most " + settings.maxConnections() + " are served");
    byte[] line = QmpMessageWriter.write(failure);
    try {
      ByteBuffer direct = ByteBuffer.allocateDirect(line.length).put(line).flip();
      socket.write(direct, 0, line.length);
    } catch (IOException e) {
      LOG.debug("refusal not sent line={}", new String(line, US_ASCII), e);
    } finally {
      FileDescriptors.close(socket.intValue());
    }
  }

  @Override
  public void close() {
    synchronized (this) {
      if (closed) {
        return;
      }
      closed = true;
    }
    stopListening();
    dispatcher.close();
    endSessions();
    group.shutdownGracefully(0, CLOSE_THREAD_SECONDS, TimeUnit.SECONDS).awaitUninterruptibly();
    if (group.isTerminated()) {
      buffers.close();
    }
    LOG.info("qmp closed");
  }

  /**
   * Takes no further clients and removes the sockets; those who are connected are served on. The
   * first step of an orderly end, so that a later one that hangs leaves no socket behind.
   */
  public void stopListening() {
    if (loop.isShuttingDown()) {
      // A start that failed has closed everything already.
      return;
    }
    loop.submit(this::closeAcceptors).awaitUninterruptibly(CLOSE_THREAD_SECONDS, TimeUnit.SECONDS);
  }

  private void closeAcceptors() {
    for (Acceptor acceptor : acceptors) {
      try {
        acceptor.close();
      } catch (IOException e) {
        LOG.warn("socket not removed cause={}", e.getMessage());
      }
    }
    acceptors.clear();
  }

  private void endSessions() {
    List<QmpSession> ending = List.copyOf(sessions);
    ending.forEach(QmpSession::endAfterOutput);
    long deadlineNanos = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(CLOSE_OUTPUT_MILLIS);
    for (QmpSession session : ending) {
      long leftNanos = Math.max(deadlineNanos - System.nanoTime(), 0);
      session
          .channel()
          .closeFuture()
          .awaitUninterruptibly(TimeUnit.NANOSECONDS.toMillis(leftNanos));
    }
    ending.forEach(session -> session.channel().close().awaitUninterruptibly());
  }
}
