package dev.postcopyd.metrics;

import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.epoll.EpollIoHandler;
import io.netty.channel.epoll.EpollServerSocketChannel;
import io.netty.channel.group.ChannelGroup;
import io.netty.channel.group.DefaultChannelGroup;
import io.netty.handler.codec.http.HttpDecoderConfig;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.timeout.ReadTimeoutHandler;
import io.netty.util.concurrent.FastThreadLocalThread;
import io.netty.util.concurrent.GlobalEventExecutor;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.Optional;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Serves {@code /metrics} (Prometheus text), {@code /healthz}, {@code /readyz} and a page to look
 * at over plain HTTP.
 *
 * <p>Runs on one thread of its own, so that a slow scrape delays nothing else. A request is bounded
 * in size and time, and the number of connections is limited. Safe for any thread; {@link #close()}
 * ends every connection and the thread.
 */
public final class HttpEndpoint implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(HttpEndpoint.class);

  private static final int MAX_CONNECTIONS = 64;
  private static final int MAX_REQUEST_LINE_BYTES = 4096;
  private static final int MAX_HEADER_BYTES = 8192;
  private static final int MAX_BODY_BYTES = 1024;
  private static final int READ_TIMEOUT_SECONDS = 30;

  private final MultiThreadIoEventLoopGroup loop;
  private final ChannelGroup connections = new DefaultChannelGroup(GlobalEventExecutor.INSTANCE);
  private final Channel listener;

  private HttpEndpoint(InetSocketAddress address, HttpRequestHandler handler) throws IOException {
    ThreadFactory threads = HttpEndpoint::thread;
    this.loop = new MultiThreadIoEventLoopGroup(1, threads, EpollIoHandler.newFactory());
    ChannelFuture bound =
        new ServerBootstrap()
            .group(loop)
            .channel(EpollServerSocketChannel.class)
            .option(ChannelOption.SO_REUSEADDR, true)
            .childHandler(
                new ChannelInitializer<Channel>() {
                  @Override
                  protected void initChannel(Channel connection) {
                    accepted(connection, handler);
                  }
                })
            .bind(address)
            .awaitUninterruptibly();
    if (!bound.isSuccess()) {
      shutDownLoop();
      throw new IOException(
          "cannot listen on http " + address + ": " + bound.cause(), bound.cause());
    }
    this.listener = bound.channel();
    LOG.info("http listening address={}", listener.localAddress());
  }

  /**
   * Starts listening.
   *
   * @param address where; port 0 lets the kernel choose
   * @param registry what {@code /metrics} shows
   * @param unhealthy why the daemon is beyond help, or empty while it lives: {@code /healthz}
   * @param readiness whether a load would be accepted now: {@code /readyz}
   * @param resources what else there is to see
   * @throws IOException if the address cannot be bound
   */
  public static HttpEndpoint start(
      InetSocketAddress address,
      PrometheusMeterRegistry registry,
      Supplier<Optional<String>> unhealthy,
      Supplier<Readiness> readiness,
      HttpResources resources)
      throws IOException {
    return new HttpEndpoint(
        address, new HttpRequestHandler(registry, unhealthy, readiness, resources));
  }

  private static Thread thread(Runnable task) {
    Thread thread = new FastThreadLocalThread(task, "postcopyd-http");
    thread.setDaemon(true);
    return thread;
  }

  /** Where it listens, with the port that the kernel chose. */
  public InetSocketAddress localAddress() {
    return (InetSocketAddress) listener.localAddress();
  }

  private void accepted(Channel connection, HttpRequestHandler handler) {
    if (connections.size() >= MAX_CONNECTIONS) {
      LOG.warn("http connection refused limit={}", MAX_CONNECTIONS);
      var _ = connection.close();
      return;
    }
    connections.add(connection);
    connection
        .pipeline()
        .addLast(new ReadTimeoutHandler(READ_TIMEOUT_SECONDS))
        .addLast(
            new HttpServerCodec(
                new HttpDecoderConfig()
                    .setMaxInitialLineLength(MAX_REQUEST_LINE_BYTES)
                    .setMaxHeaderSize(MAX_HEADER_BYTES)))
        .addLast(new HttpObjectAggregator(MAX_BODY_BYTES))
        .addLast(handler);
  }

  @Override
  public void close() {
    listener.close().awaitUninterruptibly();
    connections.close().awaitUninterruptibly();
    shutDownLoop();
  }

  private void shutDownLoop() {
    loop.shutdownGracefully(0, 2, TimeUnit.SECONDS).awaitUninterruptibly();
  }
}
