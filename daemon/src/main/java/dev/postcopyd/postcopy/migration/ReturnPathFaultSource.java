package dev.postcopyd.postcopy.migration;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.page.RamBlockTable;
import dev.postcopyd.posix.StreamSocket;
import dev.postcopyd.postcopy.FaultSink;
import dev.postcopyd.postcopy.FaultSource;
import dev.postcopyd.stream.ReturnPathDecoder;
import dev.postcopyd.stream.ReturnPathMessage;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.HashSet;
import java.util.Set;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Faults from page requests on a migration's return path; everything else that comes there goes to
 * a {@link Listener}.
 *
 * <p>{@link #serve} sits in read(2) on the main channel's socket; {@link #stop} shuts the socket
 * down. The end of the connection is the listener's to judge: serve returns normally then. Nothing
 * is allocated per request. Does not own the socket.
 */
public final class ReturnPathFaultSource implements FaultSource, AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(ReturnPathFaultSource.class);
  private static final int BUFFER_BYTES = 64 << 10;

  private final StreamSocket socket;
  private final RamBlockTable table;
  private final StreamPagePlacer placer;
  private final Listener listener;
  private final ReturnPathDecoder decoder;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment buffer = arena.allocate(BUFFER_BYTES);
  private final Set<String> unknownBlocks = new HashSet<>();
  private volatile boolean stopped;

  /** What a return path says beside page requests. Called on the serving thread. */
  public interface Listener {
    /** A message that is no page request. */
    void received(ReturnPathMessage message);

    /** Nothing more will come; the reason is for people. */
    void ended(String reason);
  }

  /**
   * @param maxBitmapBytes how long a bitmap of received pages may be
   */
  public ReturnPathFaultSource(
      StreamSocket socket,
      RamBlockTable table,
      StreamPagePlacer placer,
      Listener listener,
      long maxBitmapBytes) {
    this.socket = socket;
    this.table = table;
    this.placer = placer;
    this.listener = listener;
    this.decoder = new ReturnPathDecoder(maxBitmapBytes);
  }

  @Override
  public void serve(FaultSink sink) throws IOException {
    Requests requests = new Requests(sink);
    try {
      // Entered once: all the work is in a method that is called, and compiled while this runs.
      while (!stopped && serveOnce(requests)) {}
    } catch (IOException e) {
      listener.ended(String.valueOf(e.getMessage()));
    }
  }

  /** Answers false at the end of the return path. */
  private boolean serveOnce(Requests requests) throws IOException {
    long count = socket.receive(buffer.address(), BUFFER_BYTES);
    if (count == 0) {
      listener.ended(
          decoder.isBetweenMessages()
              ? "closed by the destination"
              : "closed by the destination in the middle of a message");
      return false;
    }
    requests.nowNanos = System.nanoTime();
    decoder.decode(buffer, count, requests);
    return true;
  }

  private final class Requests implements ReturnPathDecoder.Receiver {
    private final FaultSink sink;
    private long nowNanos;

    Requests(FaultSink sink) {
      this.sink = sink;
    }

    @Override
    public void pagesRequested(String blockName, long startBytes, long lengthBytes) {
      RamBlock block = table.byName(blockName);
      if (block == null || startBytes + lengthBytes > block.usedLengthBytes()) {
        answerUnknown(blockName, startBytes, lengthBytes);
        return;
      }
      long end = block.pageIndexAt(startBytes + lengthBytes - 1);
      for (long page = block.pageIndexAt(startBytes); page <= end; page++) {
        sink.fault(block, page, FaultSink.UNKNOWN_THREAD, nowNanos);
      }
    }

    @Override
    public void message(ReturnPathMessage message) {
      listener.received(message);
    }
  }

  private void answerUnknown(String blockName, long startBytes, long lengthBytes) {
    if (unknownBlocks.add(blockName)) {
      log.warn(
          "the destination asks for memory that the snapshot does not have: answered with zeros block={} offset={} length={}",
          blockName,
          startBytes,
          lengthBytes);
    }
    try {
      placer.placeUnknown(blockName, startBytes, lengthBytes);
    } catch (IOException e) {
      listener.ended(String.valueOf(e.getMessage()));
    }
  }

  @Override
  public void stop() {
    stopped = true;
    socket.shutdown();
  }

  /** Frees the buffer; after serve has returned. */
  @Override
  public void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
