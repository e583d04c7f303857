package dev.postcopyd.tls;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLEngineResult;
import javax.net.ssl.SSLEngineResult.HandshakeStatus;
import javax.net.ssl.SSLException;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Makes a TLS connection look like any other: whoever uses one gets a socket of a pair, with what
 * has been decrypted; two threads carry bytes between it and the network. So nothing that sends
 * pages or reads a stream knows of TLS, at the price of a copy and of a thread's turn.
 *
 * <pre>
 * network ─► unwrap ─► pair ─► user       thread tls-in
 * network ◄─ wrap ◄── pair ◄── user       thread tls-out
 * </pre>
 *
 * <p>Ends by itself when either side does: the user by closing or shutting down his socket, upon
 * which the peer is told (close_notify), the peer by ending the connection. An end that the peer
 * does not announce ends the user's socket, too; what a stream's own end looks like he knows
 * better. Owns the network's socket and the other end of the pair.
 */
public final class TlsTunnel {
  private static final Logger log = LoggerFactory.getLogger(TlsTunnel.class);

  /** How long a peer has for its greetings. */
  static final long HANDSHAKE_NANOS = TimeUnit.SECONDS.toNanos(10);

  /** What may wait between the threads and the user: little, so that urgent pages are not held. */
  private static final int PAIR_BYTES = 64 << 10;

  private static final int UNSENT_BYTES = 16 << 10;

  private final SSLEngine engine;
  private final StreamSocket network;
  private final StreamSocket user;
  private final Arena arena = Arena.ofShared();
  private final Piece encryptedIn;
  private final Piece decrypted;
  private final Piece plain;
  private final Piece encryptedOut;
  private final AtomicInteger directions = new AtomicInteger(2);

  /** Held while something is encrypted and sent, for the order of TLS's records. */
  private final Object sending = new Object();

  /** Native memory, and a buffer over it. */
  private record Piece(MemorySegment segment, ByteBuffer buffer) {
    static Piece of(Arena arena, int bytes) {
      MemorySegment segment = arena.allocate(bytes);
      return new Piece(segment, segment.asByteBuffer());
    }

    long address() {
      return segment.address();
    }
  }

  private TlsTunnel(SSLEngine engine, StreamSocket network, StreamSocket user) {
    this.engine = engine;
    this.network = network;
    this.user = user;
    int packet = engine.getSession().getPacketBufferSize();
    int application = engine.getSession().getApplicationBufferSize();
    this.encryptedIn = Piece.of(arena, 4 * packet);
    this.decrypted = Piece.of(arena, application);
    this.plain = Piece.of(arena, 16 << 10);
    this.encryptedOut = Piece.of(arena, packet);
  }

  /**
   * The server's end of a connection that has been accepted. Returns at once; a peer that does not
   * do its part ends the returned socket.
   *
   * @param fd the connection; owned here from now on
   * @param name how messages name the peer
   * @return the user's socket, owned by the caller
   */
  public static int accept(int fd, String name, TlsCredentials credentials) throws IOException {
    return accept(fd, name, credentials, HANDSHAKE_NANOS);
  }

  static int accept(int fd, String name, TlsCredentials credentials, long patienceNanos)
      throws IOException {
    int[] pair = pair(fd);
    TlsTunnel tunnel = create(fd, pair, name, credentials.engine(null));
    tunnel.start(() -> tunnel.handshake(patienceNanos));
    return pair[0];
  }

  /**
   * The client's end of a connection; waits until both sides believe each other.
   *
   * @param fd the connection; owned here from now on
   * @param name how messages name the peer
   * @param peerName what name its certificate has to bear; null: any
   * @return the user's socket, owned by the caller
   */
  public static int connect(
      int fd, String name, TlsCredentials credentials, @Nullable String peerName)
      throws IOException {
    int[] pair = pair(fd);
    TlsTunnel tunnel = create(fd, pair, name, credentials.engine(peerName));
    try {
      tunnel.handshake(HANDSHAKE_NANOS);
    } catch (IOException e) {
      FileDescriptors.close(pair[0]);
      tunnel.free();
      throw new IOException("TLS with " + name + " failed: " + e.getMessage(), e);
    }
    tunnel.start(() -> {});
    return pair[0];
  }

  private static int[] pair(int fd) throws IOException {
    try {
      return UnixSocket.socketPair();
    } catch (IOException e) {
      FileDescriptors.close(fd);
      throw e;
    }
  }

  private static TlsTunnel create(int fd, int[] pair, String name, SSLEngine engine)
      throws IOException {
    StreamSocket network = null;
    StreamSocket user = null;
    try {
      network = StreamSocket.adopt(fd, name);
      user = StreamSocket.adopt(pair[1], name);
      if (network.isTcp()) {
        network.prepareTcp(UNSENT_BYTES);
      }
      user.sendBufferBytes(PAIR_BYTES);
      return new TlsTunnel(engine, network, user);
    } catch (IOException e) {
      FileDescriptors.close(pair[0]);
      if (user == null) {
        FileDescriptors.close(pair[1]);
      } else {
        user.close();
      }
      if (network != null) {
        network.close();
      }
      throw e;
    }
  }

  /** What comes before anything is carried. */
  @FunctionalInterface
  private interface Beginning {
    void begin() throws IOException;
  }

  private void start(Beginning beginning) {
    Thread.ofPlatform().name("tls-in").daemon().start(() -> runInwards(beginning));
  }

  private void runInwards(Beginning beginning) {
    StreamSocket.prepareThread();
    boolean begun = false;
    try {
      beginning.begin();
      Thread.ofPlatform().name("tls-out").daemon().start(this::runOutwards);
      begun = true;
      carryInwards();
    } catch (IOException e) {
      log.warn("a TLS connection is given up peer={}: {}", network.name(), e.getMessage());
    } catch (RuntimeException | Error e) {
      log.error("a TLS connection was stopped by a bug", e);
    } finally {
      // The user reads what has come, and then an end.
      user.shutdown();
      if (!begun) {
        directions.decrementAndGet();
      }
      leave();
    }
  }

  private void runOutwards() {
    StreamSocket.prepareThread();
    try {
      carryOutwards();
    } catch (IOException e) {
      log.debug("a TLS connection takes nothing any more", e);
    } catch (RuntimeException | Error e) {
      log.error("a TLS connection was stopped by a bug", e);
    } finally {
      network.shutdown();
      leave();
    }
  }

  /** The last one frees what both need. */
  private void leave() {
    if (directions.decrementAndGet() == 0) {
      free();
    }
  }

  private void free() {
    network.close();
    user.close();
    arena.close();
  }

  // The greetings.

  private void handshake(long patienceNanos) throws IOException {
    long deadline = System.nanoTime() + patienceNanos;
    encryptedIn.buffer().limit(0);
    engine.beginHandshake();
    HandshakeStatus status = engine.getHandshakeStatus();
    while (status != HandshakeStatus.FINISHED && status != HandshakeStatus.NOT_HANDSHAKING) {
      try {
        status = handshakeStep(status, deadline);
      } catch (SSLException e) {
        tellWhy();
        throw e;
      }
    }
  }

  private HandshakeStatus handshakeStep(HandshakeStatus status, long deadline) throws IOException {
    return switch (status) {
      case NEED_TASK -> {
        runTasks();
        yield engine.getHandshakeStatus();
      }
      case NEED_WRAP -> wrap(ByteBuffer.allocate(0)).getHandshakeStatus();
      default -> hear(deadline);
    };
  }

  private HandshakeStatus hear(long deadline) throws IOException {
    SSLEngineResult result = unwrap();
    long left = deadline - System.nanoTime();
    if (left <= 0) {
      throw new IOException("TLS's greetings take the peer too long");
    }
    if (result.getStatus() == SSLEngineResult.Status.CLOSED
        || (result.getStatus() == SSLEngineResult.Status.BUFFER_UNDERFLOW && !receive(left))) {
      throw new IOException("the peer has ended the connection within TLS's greetings");
    }
    return result.getHandshakeStatus() == HandshakeStatus.FINISHED
        ? HandshakeStatus.FINISHED
        : engine.getHandshakeStatus();
  }

  /** The alert for a peer that is not believed, or not understood. */
  private void tellWhy() {
    try {
      for (int i = 0; i < 4 && engine.getHandshakeStatus() == HandshakeStatus.NEED_WRAP; i++) {
        SSLEngineResult _ = wrap(ByteBuffer.allocate(0));
      }
    } catch (IOException e) {
      log.debug("the peer does not listen any more", e);
    }
  }

  private void runTasks() {
    for (Runnable task = engine.getDelegatedTask();
        task != null;
        task = engine.getDelegatedTask()) {
      task.run();
    }
  }

  // From the network.

  private void carryInwards() throws IOException {
    while (true) {
      SSLEngineResult result = unwrap();
      int length = decrypted.buffer().position();
      if (length > 0) {
        user.sendFully(decrypted.address(), length);
        decrypted.buffer().clear();
      }
      switch (result.getStatus()) {
        case BUFFER_UNDERFLOW -> {
          if (!receive(-1)) {
            return;
          }
        }
        case CLOSED -> {
          return;
        }
        case BUFFER_OVERFLOW -> {
          if (length == 0) {
            throw new SSLException("a record is larger than TLS allows");
          }
        }
        case OK -> afterRecord(result.getHandshakeStatus());
      }
    }
  }

  /** New keys may have been agreed upon, or a ticket for another time have come. */
  private void afterRecord(HandshakeStatus status) throws IOException {
    if (status == HandshakeStatus.NEED_TASK) {
      runTasks();
    } else if (status == HandshakeStatus.NEED_WRAP) {
      SSLEngineResult _ = wrap(ByteBuffer.allocate(0));
    }
  }

  private SSLEngineResult unwrap() throws SSLException {
    return engine.unwrap(encryptedIn.buffer(), decrypted.buffer());
  }

  /** Receives what there is; false at the end of the connection. */
  private boolean receive(long patienceNanos) throws IOException {
    ByteBuffer buffer = encryptedIn.buffer();
    buffer.compact();
    try {
      if (patienceNanos >= 0 && network.isQuietFor(patienceNanos)) {
        throw new IOException("TLS's greetings take the peer too long");
      }
      long count = network.receive(encryptedIn.address() + buffer.position(), buffer.remaining());
      buffer.position(buffer.position() + (int) count);
      return count > 0;
    } finally {
      buffer.flip();
    }
  }

  // To the network.

  private void carryOutwards() throws IOException {
    ByteBuffer buffer = plain.buffer();
    long count;
    while ((count = user.receive(plain.address(), buffer.capacity())) > 0) {
      buffer.position(0).limit((int) count);
      while (buffer.hasRemaining()) {
        if (wrap(buffer).getStatus() == SSLEngineResult.Status.CLOSED) {
          return;
        }
      }
    }
    engine.closeOutbound();
    boolean more = !engine.isOutboundDone();
    while (more) {
      SSLEngineResult result = wrap(ByteBuffer.allocate(0));
      more = !engine.isOutboundDone() && result.bytesProduced() > 0;
    }
  }

  private SSLEngineResult wrap(ByteBuffer from) throws IOException {
    synchronized (sending) {
      encryptedOut.buffer().clear();
      SSLEngineResult result = engine.wrap(from, encryptedOut.buffer());
      if (result.bytesProduced() > 0) {
        network.sendFully(encryptedOut.address(), result.bytesProduced());
      }
      return result;
    }
  }
}
