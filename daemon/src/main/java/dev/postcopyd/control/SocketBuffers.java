package dev.postcopyd.control;

import dev.postcopyd.posix.FdPassing;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.channel.epoll.Epoll;
import io.netty.channel.unix.IovArray;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;

/**
 * The native memory for receiving and sending that all connections of one I/O thread share, so that
 * an idle connection holds none.
 *
 * <p>Used by that thread only. {@link #close()} frees the memory, after the thread has ended.
 */
final class SocketBuffers implements AutoCloseable {
  static final int BUFFER_BYTES = 64 * 1024;

  private static final int MAX_BUFFERS_PER_WRITE = 256;

  static {
    // Loads the native library, which Netty's IovArray takes for granted.
    Epoll.ensureAvailability();
  }

  private final Arena arena = Arena.ofShared();
  private final MemorySegment buffer = arena.allocate(BUFFER_BYTES, Long.BYTES);
  private final ByteBuffer bytes = buffer.asByteBuffer();
  private final IovArray iov = new IovArray(MAX_BUFFERS_PER_WRITE);
  private final int[] fds;
  private final FdPassing passing;

  /** With room for as many descriptors as one message can carry. */
  SocketBuffers() {
    this(FdPassing.MAX_FDS_PER_MESSAGE);
  }

  /** A message with more than {@code maxFds} descriptors loses all of them. */
  SocketBuffers(int maxFds) {
    this.fds = new int[maxFds];
    this.passing = new FdPassing(maxFds);
  }

  /**
   * Receives once, at most {@code limitBytes} or the buffer's size.
   *
   * @return how many bytes came, 0 at the end of the stream, or a negative errno
   */
  int receive(int socket, int limitBytes) {
    return passing.receive(socket, buffer.address(), Math.min(limitBytes, BUFFER_BYTES), fds);
  }

  /** A copy of the bytes of the last {@link #receive}; the caller releases it. */
  ByteBuf copy(ByteBufAllocator allocator, int lengthBytes) {
    return allocator.heapBuffer(lengthBytes).writeBytes(bytes.slice(0, lengthBytes));
  }

  /** Whether descriptors came with the last {@link #receive}. */
  boolean hasDescriptors() {
    return passing.fdCount() > 0;
  }

  /** The descriptors of the last {@link #receive}; call once, the caller owns them. */
  ReceivedDescriptors descriptors() {
    return new ReceivedDescriptors(fds, passing.fdCount());
  }

  /** Whether descriptors were lost in the last {@link #receive}; then none is left of it. */
  boolean truncated() {
    return passing.truncated();
  }

  /** An empty list of buffers for one gathering write. */
  IovArray iov() {
    iov.clear();
    return iov;
  }

  @Override
  public void close() {
    passing.close();
    iov.release();
    arena.close();
  }
}
