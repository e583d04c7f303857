package dev.postcopyd.metrics;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.QueryStringDecoder;
import io.netty.handler.timeout.ReadTimeoutException;
import java.io.IOException;
import java.util.Optional;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Answers one HTTP request after the other. Without state of its own; shared by all connections.
 */
@Sharable
final class HttpRequestHandler extends SimpleChannelInboundHandler<FullHttpRequest> {
  private static final Logger LOG = LoggerFactory.getLogger(HttpRequestHandler.class);

  /** Prometheus' text exposition format, the one that every scraper takes. */
  private static final String PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8";

  private static final String PLAIN_TEXT = "text/plain; charset=utf-8";

  private final PrometheusMeterRegistry registry;
  private final Supplier<Optional<String>> unhealthy;
  private final Supplier<Optional<String>> unready;

  HttpRequestHandler(
      PrometheusMeterRegistry registry,
      Supplier<Optional<String>> unhealthy,
      Supplier<Optional<String>> unready) {
    this.registry = registry;
    this.unhealthy = unhealthy;
    this.unready = unready;
  }

  @Override
  protected void channelRead0(ChannelHandlerContext ctx, FullHttpRequest request) {
    FullHttpResponse response = answer(request);
    int bodyBytes = response.content().readableBytes();
    response.headers().set(HttpHeaderNames.CONTENT_LENGTH, bodyBytes);
    boolean keepAlive = HttpUtil.isKeepAlive(request) && request.decoderResult().isSuccess();
    response
        .headers()
        .set(
            HttpHeaderNames.CONNECTION,
            keepAlive ? HttpHeaderValues.KEEP_ALIVE : HttpHeaderValues.CLOSE);
    if (request.method().equals(HttpMethod.HEAD)) {
      response.content().clear();
    }
    var written = ctx.writeAndFlush(response);
    if (!keepAlive) {
      written.addListener(ChannelFutureListener.CLOSE);
    }
  }

  private FullHttpResponse answer(FullHttpRequest request) {
    if (!request.decoderResult().isSuccess()) {
      return text(HttpResponseStatus.BAD_REQUEST, "bad request");
    }
    String path = new QueryStringDecoder(request.uri()).rawPath();
    boolean known = path.equals("/metrics") || path.equals("/healthz") || path.equals("/readyz");
    if (!known) {
      return text(HttpResponseStatus.NOT_FOUND, "not found: try /metrics, /healthz or /readyz");
    }
    if (!request.method().equals(HttpMethod.GET) && !request.method().equals(HttpMethod.HEAD)) {
      FullHttpResponse response = text(HttpResponseStatus.METHOD_NOT_ALLOWED, "use GET or HEAD");
      response.headers().set(HttpHeaderNames.ALLOW, "GET, HEAD");
      return response;
    }
    try {
      return switch (path) {
        case "/metrics" -> response(HttpResponseStatus.OK, PROMETHEUS_TEXT, registry.scrape());
        case "/healthz" -> state(unhealthy.get());
        default -> state(unready.get());
      };
    } catch (RuntimeException e) {
      LOG.error("http request failed path={}", path, e);
      return text(HttpResponseStatus.INTERNAL_SERVER_ERROR, "internal error: " + e.getMessage());
    }
  }

  private static FullHttpResponse state(Optional<String> trouble) {
    return trouble
        .map(why -> text(HttpResponseStatus.SERVICE_UNAVAILABLE, why))
        .orElseGet(() -> text(HttpResponseStatus.OK, "ok"));
  }

  private static FullHttpResponse text(HttpResponseStatus status, String line) {
    return response(status, PLAIN_TEXT, line + "\n");
  }

  private static FullHttpResponse response(
      HttpResponseStatus status, String contentType, String body) {
    ByteBuf content = Unpooled.copiedBuffer(body, UTF_8);
    FullHttpResponse response = new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, status, content);
    response.headers().set(HttpHeaderNames.CONTENT_TYPE, contentType);
    return response;
  }

  @Override
  public void exceptionCaught(ChannelHandlerContext ctx, Throwable cause) {
    if (cause instanceof IOException || cause instanceof ReadTimeoutException) {
      LOG.debug("http connection ended remote={} cause={}", ctx.channel().remoteAddress(), cause);
    } else {
      LOG.warn("http connection failed remote={}", ctx.channel().remoteAddress(), cause);
    }
    var _ = ctx.close();
  }
}
