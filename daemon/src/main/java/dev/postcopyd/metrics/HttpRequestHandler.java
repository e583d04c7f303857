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
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.util.Optional;
import java.util.function.Supplier;
import java.util.regex.Pattern;
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

  /** Only what comes from here, and nothing that is written into the page itself. */
  private static final String POLICY =
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
          + " base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

  private static final Pattern LOOPBACK = Pattern.compile("127(\\.[0-9]{1,3}){3}");

  private final PrometheusMeterRegistry registry;
  private final Supplier<Optional<String>> unhealthy;
  private final Supplier<Readiness> readiness;
  private final HttpResources resources;

  HttpRequestHandler(
      PrometheusMeterRegistry registry,
      Supplier<Optional<String>> unhealthy,
      Supplier<Readiness> readiness,
      HttpResources resources) {
    this.registry = registry;
    this.unhealthy = unhealthy;
    this.readiness = readiness;
    this.resources = resources;
  }

  @Override
  protected void channelRead0(ChannelHandlerContext ctx, FullHttpRequest request) {
    FullHttpResponse response = answer(request, ctx.channel().localAddress());
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

  private FullHttpResponse answer(FullHttpRequest request, SocketAddress local) {
    if (!request.decoderResult().isSuccess()) {
      return text(HttpResponseStatus.BAD_REQUEST, "bad request");
    }
    QueryStringDecoder uri = new QueryStringDecoder(request.uri());
    try {
      boolean reading =
          request.method().equals(HttpMethod.GET) || request.method().equals(HttpMethod.HEAD);
      return switch (uri.rawPath()) {
        case "/metrics", "/healthz", "/readyz" ->
            reading ? ownResource(uri.rawPath()) : onlyReading();
        default ->
            resources
                .get(uri.rawPath(), uri.parameters())
                .map(body -> reading ? shown(body, request, local) : onlyReading())
                .orElseGet(HttpRequestHandler::notFound);
      };
    } catch (RuntimeException e) {
      LOG.error("http request failed path={}", uri.rawPath(), e);
      return text(HttpResponseStatus.INTERNAL_SERVER_ERROR, "internal error: " + e.getMessage());
    }
  }

  private FullHttpResponse ownResource(String path) {
    return switch (path) {
      case "/metrics" -> response(HttpResponseStatus.OK, PROMETHEUS_TEXT, registry.scrape());
      case "/healthz" ->
          unhealthy
              .get()
              .map(why -> text(HttpResponseStatus.SERVICE_UNAVAILABLE, why))
              .orElseGet(() -> text(HttpResponseStatus.OK, "ok"));
      default -> {
        Readiness now = readiness.get();
        yield text(
            now.isReady() ? HttpResponseStatus.OK : HttpResponseStatus.SERVICE_UNAVAILABLE,
            now.words());
      }
    };
  }

  private static FullHttpResponse notFound() {
    return text(HttpResponseStatus.NOT_FOUND, "not found: try /, /metrics, /healthz or /readyz");
  }

  private static FullHttpResponse onlyReading() {
    FullHttpResponse response = text(HttpResponseStatus.METHOD_NOT_ALLOWED, "use GET or HEAD");
    response.headers().set(HttpHeaderNames.ALLOW, "GET, HEAD");
    return response;
  }

  /** What browsers get comes with everything forbidden to them that it does not need. */
  private static FullHttpResponse shown(
      HttpResources.Body body, FullHttpRequest request, SocketAddress local) {
    String host = request.headers().get(HttpHeaderNames.HOST, "");
    if (isLoopback(local) && !isNameOfLoopback(host)) {
      return text(
          HttpResponseStatus.FORBIDDEN,
          "this address is for users of this machine: ask for localhost, not for " + host);
    }
    FullHttpResponse response = response(HttpResponseStatus.OK, body.contentType(), body.text());
    response
        .headers()
        .set(HttpHeaderNames.CONTENT_SECURITY_POLICY, POLICY)
        .set("X-Content-Type-Options", "nosniff")
        .set("Referrer-Policy", "no-referrer")
        .set("Cross-Origin-Resource-Policy", "same-origin")
        .set("Cross-Origin-Opener-Policy", "same-origin")
        .set(HttpHeaderNames.CACHE_CONTROL, HttpHeaderValues.NO_STORE);
    return response;
  }

  private static boolean isLoopback(SocketAddress local) {
    return local instanceof InetSocketAddress inet && inet.getAddress().isLoopbackAddress();
  }

  /**
   * Whether a browser has come here by a name that nobody else can make point here: a page from
   * elsewhere could read everything otherwise, once its own name resolves to this machine.
   */
  private static boolean isNameOfLoopback(String hostAndPort) {
    String host = hostAndPort.replaceFirst(":[0-9]*$", "");
    return host.isEmpty()
        || host.equalsIgnoreCase("localhost")
        || host.equals("[::1]")
        || LOOPBACK.matcher(host).matches();
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
