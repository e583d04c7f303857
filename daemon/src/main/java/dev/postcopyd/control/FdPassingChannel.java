package dev.postcopyd.control;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import io.netty.buffer.ByteBuf;
import io.netty.channel.AbstractChannel;
import io.netty.channel.ChannelConfig;
import io.netty.channel.ChannelMetadata;
import io.netty.channel.ChannelOutboundBuffer;
import io.netty.channel.ChannelPromise;
import io.netty.channel.DefaultChannelConfig;
import io.netty.channel.EventLoop;
import io.netty.channel.IoEvent;
import io.netty.channel.IoEventLoop;
import io.netty.channel.IoRegistration;
import io.netty.channel.epoll.EpollIoEvent;
import io.netty.channel.epoll.EpollIoHandle;
import io.netty.channel.epoll.EpollIoOps;
import io.netty.channel.socket.ChannelInputShutdownEvent;
import io.netty.channel.unix.FileDescriptor;
import io.netty.channel.unix.IovArray;
import io.netty.channel.unix.Socket;
import io.netty.channel.unix.UnixChannelUtil;
import io.netty.util.ReferenceCountUtil;
import java.io.IOException;
import java.net.SocketAddress;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A connected stream socket, unix or TCP, whose descriptors arrive together with the bytes.
 *
 * <p>Netty's own domain-socket channel reads either bytes or descriptors and loses the other kind.
 * This one calls {@code recvmsg}: {@link ReceivedDescriptors} comes through the pipeline first,
 * then a {@link ByteBuf} with the bytes that carried them. Descriptors that nobody takes are closed
 * when the message is released.
 *
 * <p>The peer's end of stream is {@link ChannelInputShutdownEvent}; the channel can still be
 * written to and does not close by itself. An error of the socket closes it.
 *
 * <p>Owns the socket. Confined to its event loop as every channel is.
 */
final class FdPassingChannel extends AbstractChannel {
  private static final Logger LOG = LoggerFactory.getLogger(FdPassingChannel.class);
  private static final ChannelMetadata METADATA = new ChannelMetadata(false);

  /** How often one connection may be read before others get their turn. */
  private static final int MAX_READS_PER_TURN = 16;

  private final Socket socket;
  private final SocketAddress local;
  private final SocketAddress remote;
  private final SocketBuffers buffers;
  private final ChannelConfig config = new DefaultChannelConfig(this);

  private @Nullable IoRegistration registration;
  private boolean active = true;
  private boolean readPending;
  private boolean inputShutdown;
  private boolean writeArmed;
  private @Nullable EpollIoOps submitted;

  /**
   * @param fd connected and non-blocking; owned by this channel
   * @param buffers of the event loop that the channel will be registered with
   */
  FdPassingChannel(int fd, SocketAddress local, SocketAddress remote, SocketBuffers buffers) {
    super(null);
    this.socket = new Socket(fd);
    this.local = local;
    this.remote = remote;
    this.buffers = buffers;
  }

  @Override
  protected AbstractUnsafe newUnsafe() {
    return new SocketUnsafe();
  }

  @Override
  protected boolean isCompatible(EventLoop loop) {
    return loop instanceof IoEventLoop ioLoop && ioLoop.isCompatible(SocketUnsafe.class);
  }

  @Override
  protected void doRegister(ChannelPromise promise) {
    ((IoEventLoop) eventLoop())
        .register((SocketUnsafe) unsafe())
        .addListener(future -> {
          if (future.isSuccess()) {
            registration = (IoRegistration) future.getNow();
            submitInterest();
            promise.setSuccess();
          } else {
            promise.setFailure(future.cause());
          }
        });
  }

  @Override
  protected void doDeregister() {
    IoRegistration current = registration;
    if (current != null) {
      current.cancel();
    }
  }

  @Override
  protected void doClose() throws IOException {
    active = false;
    try {
      doDeregister();
    } finally {
      socket.close();
    }
  }

  @Override
  protected void doDisconnect() throws IOException {
    doClose();
  }

  @Override
  protected void doShutdownOutput() throws IOException {
    socket.shutdown(false, true);
  }

  @Override
  protected void doBind(SocketAddress localAddress) {
    throw new UnsupportedOperationException("the socket is connected already");
  }

  @Override
  protected void doBeginRead() {
    if (!inputShutdown) {
      readPending = true;
      submitInterest();
    }
  }

  private boolean wantsRead() {
    return active && !inputShutdown && (readPending || config.isAutoRead());
  }

  /**
   * Tells epoll what this channel waits for. Never nothing: EPOLLHUP and EPOLLERR are reported
   * always, and EPOLLET makes that once instead of for ever while nobody reads.
   */
  private void submitInterest() {
    IoRegistration current = registration;
    if (current == null || !active) {
      return;
    }
    EpollIoOps ops = wantsRead() ? EpollIoOps.EPOLLIN : EpollIoOps.EPOLLET;
    if (writeArmed) {
      ops = ops.with(EpollIoOps.EPOLLOUT);
    }
    if (!ops.equals(submitted)) {
      submitted = ops;
      current.submit(ops);
    }
  }

  /** Reads while somebody wants it; one receive call for one {@code read()}. */
  private void readReady() {
    boolean any = false;
    for (int i = 0; i < MAX_READS_PER_TURN && wantsRead(); i++) {
      int count = buffers.receive(socket.intValue(), SocketBuffers.BUFFER_BYTES);
      if (count == -Errno.EAGAIN) {
        break;
      }
      readPending = false;
      if (count <= 0) {
        inputShutdown = true;
        if (count < 0) {
          failed(new ErrnoException("recvmsg", remote.toString(), -count));
        } else {
          pipeline().fireUserEventTriggered(ChannelInputShutdownEvent.INSTANCE);
        }
        break;
      }
      any = true;
      received(count);
    }
    if (any) {
      pipeline().fireChannelReadComplete();
    }
    submitInterest();
  }

  private void received(int count) {
    // Both are taken out of the shared buffers before a handler runs.
    ByteBuf bytes = buffers.copy(alloc(), count);
    ReceivedDescriptors descriptors = buffers.hasDescriptors() ? buffers.descriptors() : null;
    if (buffers.truncated()) {
      LOG.warn("descriptors lost peer={} reason=too-many-open-files-or-too-many-sent", remote);
    }
    if (descriptors != null) {
      pipeline().fireChannelRead(descriptors);
    }
    pipeline().fireChannelRead(bytes);
  }

  private void failed(IOException cause) {
    pipeline().fireExceptionCaught(cause);
    unsafe().close(unsafe().voidPromise());
  }

  @Override
  protected Object filterOutboundMessage(Object message) {
    if (!(message instanceof ByteBuf buffer)) {
      throw new UnsupportedOperationException(
          "only bytes can be written, not " + message.getClass().getName());
    }
    if (!UnixChannelUtil.isBufferCopyNeededForWrite(buffer)) {
      return buffer;
    }
    ByteBuf direct = alloc().directBuffer(buffer.readableBytes());
    direct.writeBytes(buffer, buffer.readerIndex(), buffer.readableBytes());
    ReferenceCountUtil.safeRelease(buffer);
    return direct;
  }

  @Override
  protected void doWrite(ChannelOutboundBuffer out) throws IOException {
    for (int turns = config.getWriteSpinCount(); turns > 0; turns--) {
      if (out.isEmpty()) {
        armWrite(false);
        return;
      }
      IovArray iov = buffers.iov();
      forEachFlushed(out, iov);
      if (iov.count() == 0) {
        // Only empty buffers.
        out.removeBytes(0);
        continue;
      }
      long written = socket.writevAddresses(iov.memoryAddress(0), iov.count());
      if (written <= 0) {
        armWrite(true);
        return;
      }
      out.removeBytes(written);
    }
    // The socket still takes bytes, but others want the thread too.
    armWrite(false);
    eventLoop().execute(((SocketUnsafe) unsafe())::writeReady);
  }

  private static void forEachFlushed(ChannelOutboundBuffer out, IovArray iov) throws IOException {
    try {
      out.forEachFlushedMessage(iov);
    } catch (IOException | RuntimeException e) {
      throw e;
    } catch (Exception e) {
      throw new IOException("gathering output failed", e);
    }
  }

  private void armWrite(boolean armed) {
    if (writeArmed != armed) {
      writeArmed = armed;
      submitInterest();
    }
  }

  @Override
  public ChannelConfig config() {
    return config;
  }

  @Override
  public boolean isOpen() {
    return socket.isOpen();
  }

  @Override
  public boolean isActive() {
    return active;
  }

  @Override
  public ChannelMetadata metadata() {
    return METADATA;
  }

  @Override
  protected SocketAddress localAddress0() {
    return local;
  }

  @Override
  protected SocketAddress remoteAddress0() {
    return remote;
  }

  private final class SocketUnsafe extends AbstractUnsafe implements EpollIoHandle {
    @Override
    public FileDescriptor fd() {
      return socket;
    }

    @Override
    public void handle(IoRegistration from, IoEvent event) {
      EpollIoOps ops = ((EpollIoEvent) event).ops();
      if (ops.contains(EpollIoOps.EPOLLOUT)) {
        writeReady();
      }
      if (wantsRead()) {
        readReady();
      } else if (ops.contains(EpollIoOps.EPOLLERR)) {
        // What the peer had sent before stays unread: nobody would get the answer.
        failed(new IOException("connection reset by " + remote));
      } else {
        submitInterest();
      }
    }

    void writeReady() {
      super.flush0();
    }

    @Override
    protected void flush0() {
      // While the socket is full, EPOLLOUT brings the next attempt.
      if (!writeArmed) {
        super.flush0();
      }
    }

    @Override
    public void connect(SocketAddress remoteAddress, SocketAddress localAddress, ChannelPromise p) {
      p.setFailure(new UnsupportedOperationException("the socket is connected already"));
    }

    @Override
    public void close() {
      close(voidPromise());
    }
  }
}
