package dev.postcopyd.qmp.codec;

import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.util.ReferenceCountUtil;
import java.nio.ByteBuffer;
import org.jspecify.annotations.Nullable;

/**
 * First inbound handler: {@link ByteBuf}s in, {@link QmpFrame}s out.
 *
 * <p>One read can complete many frames; they are fired one by one, so a pipeline that wants them at
 * its own pace puts a {@code FlowControlHandler} behind. One per connection; holds the connection's
 * account of the shared {@link FrameBudget} and closes it with the channel.
 */
public final class QmpFrameDecoder extends ChannelInboundHandlerAdapter {
  private final QmpLimits limits;
  private final FrameBudget.Account account;
  private @Nullable QmpFramer framer;

  public QmpFrameDecoder(QmpLimits limits, FrameBudget budget) {
    this.limits = limits;
    this.account = budget.openAccount();
  }

  @Override
  public void handlerAdded(ChannelHandlerContext context) {
    framer = new QmpFramer(limits, account, new FrameSink(context));
  }

  @Override
  public void handlerRemoved(ChannelHandlerContext context) {
    close();
  }

  @Override
  public void channelInactive(ChannelHandlerContext context) {
    close();
    context.fireChannelInactive();
  }

  @Override
  public void channelRead(ChannelHandlerContext context, Object message) {
    QmpFramer current = framer;
    if (!(message instanceof ByteBuf bytes)) {
      context.fireChannelRead(message);
      return;
    }
    try {
      if (current != null) {
        for (ByteBuffer part : bytes.nioBuffers()) {
          current.feed(part);
        }
      }
    } finally {
      ReferenceCountUtil.release(bytes);
    }
  }

  private void close() {
    if (framer != null) {
      framer.close();
      framer = null;
      account.close();
    }
  }

  /** Parses each frame and fires it. */
  private record FrameSink(ChannelHandlerContext context) implements QmpFramer.Sink {
    @Override
    public void complete(byte[] text, int length, FrameBudget.Lease lease) {
      if (isClosed()) {
        lease.close();
        return;
      }
      QmpFrame frame;
      try {
        frame = new QmpFrame.Complete(QmpJson.parseFrame(text, length), lease);
      } catch (QmpParseException e) {
        lease.close();
        frame = new QmpFrame.Malformed(e.description());
      }
      context.fireChannelRead(frame);
    }

    @Override
    public void malformed(String description) {
      if (!isClosed()) {
        context.fireChannelRead(new QmpFrame.Malformed(description));
      }
    }

    /** Closed by whoever got an earlier frame of the same read; nobody wants the rest. */
    private boolean isClosed() {
      return !context.channel().isActive();
    }
  }
}
