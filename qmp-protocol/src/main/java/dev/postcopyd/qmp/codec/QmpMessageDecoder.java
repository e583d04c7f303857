package dev.postcopyd.qmp.codec;

import io.netty.channel.ChannelHandlerContext;
import io.netty.handler.codec.MessageToMessageDecoder;
import java.util.List;

/** Second inbound handler of a server: {@link QmpFrame}s in, {@link QmpRequest}s out. Stateless. */
public final class QmpMessageDecoder extends MessageToMessageDecoder<QmpFrame> {
  public QmpMessageDecoder() {
    super(QmpFrame.class);
  }

  @Override
  public boolean isSharable() {
    return true;
  }

  @Override
  protected void decode(ChannelHandlerContext context, QmpFrame frame, List<Object> out) {
    out.add(new QmpRequest(frame));
  }
}
