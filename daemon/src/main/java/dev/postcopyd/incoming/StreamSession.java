package dev.postcopyd.incoming;

import dev.postcopyd.metrics.PostcopyMetrics;
import dev.postcopyd.page.PageSize;
import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.postcopy.EagerLoader;
import dev.postcopyd.postcopy.EngineListener;
import dev.postcopyd.postcopy.FaultOrder;
import dev.postcopyd.postcopy.FaultThread;
import dev.postcopyd.postcopy.PostcopyEngine;
import dev.postcopyd.postcopy.PostcopyPageHandler;
import dev.postcopyd.postcopy.migration.BulkPacer;
import dev.postcopyd.postcopy.migration.PageChannel;
import dev.postcopyd.postcopy.migration.ReturnPathFaultSource;
import dev.postcopyd.postcopy.migration.ReturnPathInbox;
import dev.postcopyd.postcopy.migration.StreamPagePlacer;
import dev.postcopyd.stream.ReturnPathMessage;
import java.io.IOException;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One connection of a stream load, from connecting to its end: channels, engine and threads. A load
 * that is recovered has another session.
 *
 * <p>Made and closed by the thread of the load's steps; {@link #cut} may be called from any. Owns
 * its sockets and threads; neither the snapshot nor the page handler.
 */
final class StreamSession
    implements EngineListener,
        ReturnPathFaultSource.Listener,
        StreamPagePlacer.BrokenStream,
        AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(StreamSession.class);

  /** Bulk records between two looks for urgent ones, where both share a channel. */
  private static final int SHARED_CHANNEL_RECORDS = 16;

  private static final int OWN_CHANNEL_RECORDS = 64;
  private static final int TCP_UNSENT_BYTES = 128 << 10;

  /** Is told what becomes of a session; each at most once, and only one of the last two. */
  interface Owner {
    void allPagesReceived();

    void sessionFailed(String reason);

    void connectionLost(String reason);
  }

  private enum End {
    SHUT,
    LOST,
    FAILED,
    CLOSED
  }

  private final RamBlockTable table;
  private final Owner owner;
  private final PageChannel main;
  private final StreamPagePlacer placer;
  private final PostcopyEngine engine;
  private final ReturnPathFaultSource faults;
  private final ReturnPathInbox inbox = new ReturnPathInbox();
  private final FaultThread faultThread;
  private final BulkPacer pacer;
  private final AtomicReference<@Nullable End> end = new AtomicReference<>();
  private volatile @Nullable PageChannel preempt;
  private volatile boolean endingSent;
  private volatile @Nullable String lostBecause;
  private @Nullable EagerLoader eagerLoader;

  /**
   * Takes the socket over, also when it throws.
   *
   * @param fd connected to the destination
   * @param ownChannelForFaults whether a second channel will come
   * @param bytesPerSecond the limit of the bulk, 0 for none
   */
  static StreamSession open(
      int fd,
      String peer,
      boolean ownChannelForFaults,
      RamBlockTable table,
      PostcopyPageHandler handler,
      PostcopyMetrics metrics,
      FaultOrder faultOrder,
      LongSupplier bytesPerSecond,
      Owner owner)
      throws IOException {
    StreamSocket socket = StreamSocket.adopt(fd, peer);
    try {
      if (socket.isTcp()) {
        socket.prepareTcp(TCP_UNSENT_BYTES);
      }
    } catch (IOException | RuntimeException e) {
      socket.close();
      throw e;
    }
    try {
      return new StreamSession(
          socket, ownChannelForFaults, table, handler, metrics, faultOrder, bytesPerSecond, owner);
    } catch (RuntimeException | Error e) {
      socket.close(); // bitmaps are large
      throw e;
    }
  }

  private StreamSession(
      StreamSocket socket,
      boolean ownChannelForFaults,
      RamBlockTable table,
      PostcopyPageHandler handler,
      PostcopyMetrics metrics,
      FaultOrder faultOrder,
      LongSupplier bytesPerSecond,
      Owner owner) {
    this.table = table;
    this.owner = owner;
    this.main =
        new PageChannel(
            socket,
            table.blocks(),
            ownChannelForFaults ? OWN_CHANNEL_RECORDS : SHARED_CHANNEL_RECORDS);
    this.placer = new StreamPagePlacer(table, main, this);
    this.engine = new PostcopyEngine(table, handler, placer, this, metrics, faultOrder);
    this.faults = new ReturnPathFaultSource(socket, table, placer, this, largestBitmapBytes(table));
    this.faultThread = new FaultThread(faults, engine, "faults");
    this.pacer = new BulkPacer(main, bytesPerSecond);
  }

  private static long largestBitmapBytes(RamBlockTable table) {
    long largest = 0;
    for (RamBlock block : table.blocks()) {
      long targetPages = PageSize.SIZE_4K.pagesIn(block.usedLengthBytes());
      largest = Math.max(largest, (targetPages + 63) >>> 6 << 3);
    }
    return largest;
  }

  PostcopyEngine engine() {
    return engine;
  }

  PageChannel main() {
    return main;
  }

  ReturnPathInbox inbox() {
    return inbox;
  }

  /** Begins to read the return path, and to answer the requests on it. */
  void start() {
    faultThread.start();
  }

  /** Takes the second connection over. */
  void openPreemptChannel(int fd) throws IOException {
    StreamSocket socket = StreamSocket.adopt(fd, main.socket().name() + " (preempt)");
    try {
      if (socket.isTcp()) {
        socket.prepareTcp(TCP_UNSENT_BYTES);
      }
    } catch (IOException | RuntimeException e) {
      socket.close();
      throw e;
    }
    PageChannel channel = new PageChannel(socket, table.blocks(), OWN_CHANNEL_RECORDS);
    preempt = channel;
    placer.usePreemptChannel(channel);
    if (end.get() != null) {
      channel.shutdown();
    }
  }

  /**
   * Begins to send what the guest is expected to ask for, and nothing else.
   *
   * @param prefetchOrder page indices, in order
   */
  void startPrefetch(long[] prefetchOrder) {
    EagerLoader loader =
        new EagerLoader(engine, 1, EagerLoader.RUN_BYTES, "eager", prefetchOrder, pacer);
    eagerLoader = loader;
    if (prefetchOrder.length > 0) {
      loader.startPrefetch();
    }
  }

  /**
   * Begins to send what nobody asks for.
   *
   * @param all or does not
   */
  void startEagerLoader(boolean all) {
    EagerLoader loader = eagerLoader;
    if (engine.isComplete()) {
      owner.allPagesReceived();
    } else if (loader != null && all) {
      loader.start();
    }
  }

  /** Everything has been sent: says so, and goes on answering what a preempt channel can. */
  void sendEnding(byte[] bytes) throws IOException {
    endingSent = true;
    main.sendLast(bytes);
  }

  @Override
  public void allPagesReceived() {
    owner.allPagesReceived();
  }

  /** The engine's: the source has failed, or sending has. */
  @Override
  public void loadFailed(String reason) {
    if (end.compareAndSet(null, End.FAILED)) {
      shutDown(reason);
      owner.sessionFailed(reason);
    }
  }

  @Override
  public void sendingFailed(IOException cause) {
    if (endingSent) {
      // It had all data before, and may be gone with its last question open: what has become of it
      // is told by the return path, or by that path's end.
      log.debug("not answered any more cause=\"{}\"", cause.getMessage());
      return;
    }
    lose(String.valueOf(cause.getMessage()));
  }

  @Override
  public void received(ReturnPathMessage message) {
    log.debug("return path message={}", message);
    if (message instanceof ReturnPathMessage.Shut(int status)) {
      if (status == 0 && endingSent) {
        end.compareAndSet(null, End.SHUT);
      } else if (status == 0) {
        loadFailed("the destination has ended the migration before all pages were sent");
      } else {
        loadFailed(
            "the destination has given the migration up (status "
                + status
                + "); its own log says why");
      }
    }
    inbox.add(message);
  }

  @Override
  public void ended(String reason) {
    lose(reason);
  }

  /** The connection is gone. */
  private void lose(String reason) {
    if (end.compareAndSet(null, End.LOST)) {
      String whole = "connection to " + main.socket().name() + " lost: " + reason;
      lostBecause = whole;
      shutDown(whole);
      engine.fail(whole);
      owner.connectionLost(whole);
    } else {
      inbox.end(reason);
    }
  }

  /** How the connection was lost, if it was. */
  Optional<String> lostBecause() {
    return Optional.ofNullable(lostBecause);
  }

  /** Cuts the connection, as if the network had. */
  void cut(String reason) {
    lose(reason);
  }

  /** Makes every thread of the session return from what it waits for. */
  private void shutDown(String reason) {
    pacer.stop();
    main.shutdown();
    PageChannel urgent = preempt;
    if (urgent != null) {
      urgent.shutdown();
    }
    inbox.end(reason);
  }

  @Override
  public void close() {
    end.compareAndSet(null, End.CLOSED);
    shutDown("the load has ended");
    EagerLoader loader = eagerLoader;
    if (loader != null) {
      loader.close();
    }
    faultThread.close();
    faults.close();
    main.close();
    PageChannel urgent = preempt;
    if (urgent != null) {
      urgent.close();
    }
  }
}
