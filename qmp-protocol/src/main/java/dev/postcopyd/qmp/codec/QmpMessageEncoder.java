package dev.postcopyd.qmp.codec;

import dev.postcopyd.qmp.message.QmpMessage;
import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelHandlerContext;
import io.netty.handler.codec.MessageToByteEncoder;

/** Outbound handler: {@link QmpMessage}s to bytes, see {@link QmpMessageWriter}. Stateless. */
public final class QmpMessageEncoder extends MessageToByteEncoder<QmpMessage> {
  public QmpMessageEncoder() {
    super(QmpMessage.class);
  }

  @Override
  public boolean isSharable() {
    return true;
  }

  @Override
  protected void encode(ChannelHandlerContext context, QmpMessage message, ByteBuf out) {
    out.writeBytes(QmpMessageWriter.write(message));
  }
}
