package dev.postcopyd.source;

import dev.postcopyd.page.RamBlock;
import dev.postcopyd.stream.ReturnPathMessage;
import dev.postcopyd.stream.StreamEncoder;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * The way back to a migration source: the main channel's socket, in the other direction. Open only
 * once the source has said that it listens. Messages go out whole and one at a time, whatever
 * thread sends them.
 *
 * <p>Whoever has a request for pages sends it, and all that wait, if nobody else is sending; else
 * that one does. A source that does not read is waited for by a thread of its own, so that the
 * guest's faults never are held up by it. That one, and whoever sends another message, returns when
 * the connection is shut down.
 */
final class ReturnPath implements PageRequests {
  private static final int BUFFER_BYTES = 16 << 10;

  private final Sender sender;
  private final RequestQueue requests = new RequestQueue();
  private final ReentrantLock sending = new ReentrantLock();
  private volatile boolean open;

  // Under the lock.
  private @Nullable MemorySegment buffer;
  private @Nullable ByteBuffer bytes;
  private long from;
  private long to;
  private boolean closed;
  private @Nullable Thread helper;

  /** What takes the bytes of messages. */
  interface Sender {
    /** Sends all. */
    void send(MemorySegment message) throws IOException;

    /** Sends what goes at once; answers how much that is. */
    default long trySend(MemorySegment message, long fromByte, long toByte) throws IOException {
      send(message.asSlice(fromByte, toByte - fromByte));
      return toByte - fromByte;
    }

    /** Requests can no longer be sent. */
    default void failed(IOException cause) {}
  }

  ReturnPath(Sender sender) {
    this.sender = sender;
  }

  void open() {
    open = true;
  }

  boolean isOpen() {
    return open;
  }

  /** Sends a message, if anybody listens for it. */
  void send(ReturnPathMessage message) throws IOException {
    if (!open) {
      return;
    }
    StreamEncoder encoder = new StreamEncoder();
    message.encode(encoder);
    byte[] encoded = encoder.toByteArray();
    sending.lock();
    try (Arena local = Arena.ofConfined()) {
      requireOpen();
      sendRest();
      MemorySegment copy = local.allocate(Math.max(1, encoded.length));
      MemorySegment.copy(MemorySegment.ofArray(encoded), 0, copy, 0, encoded.length);
      sender.send(copy.asSlice(0, encoded.length));
    } finally {
      sending.unlock();
    }
    flush();
  }

  private void requireOpen() throws IOException {
    if (closed) {
      throw new IOException("the connection has been closed");
    }
  }

  @Override
  public void request(RamBlock block, long firstPageIndex, int pageCount) {
    requests.add(block, firstPageIndex, pageCount);
    flush();
  }

  /** Sends what waits, unless somebody is at it: that one looks again after it. */
  private void flush() {
    while (open && !requests.isEmpty() && sending.tryLock()) {
      try {
        if (closed) {
          requests.clear();
        } else if (!sendAtOnce()) {
          startHelper();
          return;
        }
      } catch (IOException e) {
        requests.clear();
        sender.failed(e);
      } finally {
        sending.unlock();
      }
    }
  }

  /** Answers false if the source does not take any more at the moment. */
  private boolean sendAtOnce() throws IOException {
    MemorySegment of = buffer();
    do {
      while (from < to) {
        long count = sender.trySend(of, from, to);
        if (count == 0) {
          return false;
        }
        from += count;
      }
    } while (encode());
    return true;
  }

  private boolean encode() {
    from = 0;
    to = bytes == null ? 0 : requests.encode(bytes);
    return to > 0;
  }

  /** A request that is half sent comes before anything else. */
  private void sendRest() throws IOException {
    if (from < to) {
      sender.send(buffer().asSlice(from, to - from));
      from = to;
    }
  }

  private MemorySegment buffer() {
    MemorySegment of = buffer;
    if (of == null) {
      // Freed when nobody knows this object any more, whatever thread is late with a request.
      of = Arena.ofAuto().allocate(BUFFER_BYTES, Long.BYTES);
      buffer = of;
      bytes = of.asByteBuffer();
    }
    return of;
  }

  private void startHelper() {
    if (helper == null) {
      Thread waiting =
          Thread.ofPlatform().name("source-requests").daemon().unstarted(this::sendWaiting);
      helper = waiting;
      waiting.start();
    }
  }

  private void sendWaiting() {
    sending.lock();
    try {
      do {
        if (closed) {
          return;
        }
        sendRest();
      } while (encode());
    } catch (IOException e) {
      requests.clear();
      sender.failed(e);
    } finally {
      helper = null;
      sending.unlock();
    }
    flush();
  }

  /** Sends a last, short message if that is possible without waiting for the source. */
  void sendLast(ReturnPathMessage message) throws IOException {
    if (!open || !sending.tryLock()) {
      return;
    }
    try (Arena local = Arena.ofConfined()) {
      if (!closed && from == to) {
        StreamEncoder encoder = new StreamEncoder();
        message.encode(encoder);
        byte[] encoded = encoder.toByteArray();
        MemorySegment copy = local.allocate(encoded.length);
        MemorySegment.copy(MemorySegment.ofArray(encoded), 0, copy, 0, encoded.length);
        long _ = sender.trySend(copy, 0, encoded.length);
      }
    } finally {
      sending.unlock();
    }
  }

  /** Nothing is sent after this; the socket has been shut down, so that nobody waits in it. */
  void close() {
    sending.lock();
    try {
      closed = true;
      requests.clear();
    } finally {
      sending.unlock();
    }
  }
}
