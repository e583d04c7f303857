package dev.postcopyd.stream;

import java.io.IOException;
import java.nio.ByteBuffer;
import org.jspecify.annotations.Nullable;

/**
 * What comes over one connection, as native memory in which decoders look at it in place.
 *
 * <p>{@link #require} makes sure that so many bytes stand one behind the other. When the buffer is
 * full it is exchanged for another one, and what has not been looked at moves there: so a receiver
 * of pages may keep the buffer that they stand in. It is told ({@link Buffers#exchange}), and never
 * within what one {@code require} has brought in.
 *
 * <p>Also a {@link StreamSource} for what is read by a {@link StreamInput}, which moves forward
 * only. Used by one thread; allocates nothing but where something ends. Owns neither feed nor
 * buffers.
 */
public final class ChannelInput implements StreamSource {
  private final Feed feed;
  private final Buffers buffers;
  private PageBuffer buffer;
  private ByteBuffer bytes;
  private long address;
  private int position;
  private int limit;

  /** Where in the stream the buffer begins. */
  private long bufferOffsetBytes;

  /** Where the bytes come from. */
  @FunctionalInterface
  public interface Feed {
    /**
     * Waits for bytes.
     *
     * @return how many came; 0 at the end
     */
    long receive(long address, long lengthBytes) throws IOException;
  }

  /** Where the memory comes from. */
  @FunctionalInterface
  public interface Buffers {
    /**
     * A buffer in exchange for one that is full; it may be the same.
     *
     * @param full null for the first one
     * @param keptFrom what stands from there on is to stand at the beginning of the new buffer
     */
    PageBuffer exchange(@Nullable PageBuffer full, int keptFrom, int keptLength) throws IOException;

    /** The same buffer again and again. */
    static Buffers same() {
      return (full, from, length) -> {
        PageBuffer buffer = full == null ? new PageBuffer() : full;
        buffer.keep(buffer, from, length);
        return buffer;
      };
    }
  }

  public ChannelInput(Feed feed, PageBuffer first, Buffers buffers) {
    this.feed = feed;
    this.buffers = buffers;
    this.buffer = first;
    this.bytes = first.bytes();
    this.address = first.address();
  }

  /** Where in the stream the next byte stands. */
  public long offsetBytes() {
    return bufferOffsetBytes + position;
  }

  /** How many bytes have come. */
  public long receivedBytes() {
    return bufferOffsetBytes + limit;
  }

  /** The buffer as it is now: indices into it are good until the next {@link #require}. */
  public ByteBuffer bytes() {
    return bytes;
  }

  /** Where the buffer begins. */
  public long address() {
    return address;
  }

  /** The index of the next byte. */
  public int position() {
    return position;
  }

  /** One past the index of the last byte that is there. */
  public int limit() {
    return limit;
  }

  /** The next bytes have been looked at. */
  public void skip(int count) {
    position += count;
  }

  /** Goes forward to where a {@link StreamInput} has got to. */
  public void skipTo(long offsetBytes) {
    long to = offsetBytes - bufferOffsetBytes;
    if (to < position || to > limit) {
      throw new IllegalStateException(
          "offset " + offsetBytes + " is not between " + offsetBytes() + " and what has come");
    }
    position = (int) to;
  }

  /**
   * Makes sure that so many bytes are there.
   *
   * @param length at most half of a buffer
   * @return the index of the first
   */
  public int require(int length, String what) throws IOException {
    while (limit - position < length) {
      if (!fill(length)) {
        throw new ChannelEndedException(what, offsetBytes(), limit == position);
      }
    }
    return position;
  }

  /** Receives what there is, waiting for at least a byte; false at the end of the stream. */
  public boolean fill() throws IOException {
    return fill(limit - position + 1);
  }

  private boolean fill(int wanted) throws IOException {
    if (PageBuffer.BYTES - position < wanted || limit == PageBuffer.BYTES) {
      exchange();
    }
    long count = feed.receive(address + limit, PageBuffer.BYTES - limit);
    limit += (int) count;
    return count > 0;
  }

  private void exchange() throws IOException {
    if (position == 0 && limit == PageBuffer.BYTES) {
      throw new IllegalStateException("more is wanted at once than a buffer holds");
    }
    int left = limit - position;
    PageBuffer next = buffers.exchange(buffer, position, left);
    buffer = next;
    bytes = next.bytes();
    address = next.address();
    bufferOffsetBytes += position;
    position = 0;
    limit = left;
  }

  /** The buffer in use; for its owner, when nothing is received any more. */
  public PageBuffer buffer() {
    return buffer;
  }

  /** There is no telling. */
  @Override
  public long sizeBytes() {
    return Long.MAX_VALUE;
  }

  @Override
  public int readAt(long offsetBytes, byte[] into, int from, int length) throws IOException {
    return readAt(offsetBytes, into, from, length, length);
  }

  @Override
  public int readAt(long offsetBytes, byte[] into, int from, int least, int length)
      throws IOException {
    skipTo(offsetBytes);
    int at = require(least, "a record");
    int count = Math.min(length, limit - at);
    bytes.get(at, into, from, count);
    return count;
  }
}
