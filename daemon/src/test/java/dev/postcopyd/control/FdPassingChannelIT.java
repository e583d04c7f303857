package dev.postcopyd.control;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.NativeFile;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.EventLoop;
import io.netty.channel.IoEventLoop;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.epoll.EpollIoHandler;
import io.netty.channel.socket.ChannelInputShutdownEvent;
import io.netty.channel.unix.DomainSocketAddress;
import io.netty.util.ReferenceCountUtil;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The channel over real unix sockets, with an acceptor in front. */
class FdPassingChannelIT {
  @TempDir Path directory;

  private final MultiThreadIoEventLoopGroup group =
      new MultiThreadIoEventLoopGroup(1, EpollIoHandler.newFactory());
  private final BlockingQueue<Object> events = new LinkedBlockingQueue<>();
  private final BlockingQueue<FdPassingChannel> channels = new LinkedBlockingQueue<>();
  private SocketBuffers buffers = new SocketBuffers();
  private volatile boolean autoRead = true;
  private volatile boolean claims = true;
  private IoEventLoop loop;
  private Acceptor acceptor;
  private Path path;
  private int marks;

  /** Records what comes; descriptors are taken and told by what they lead to. */
  private final class Recorder extends ChannelInboundHandlerAdapter {
    @Override
    public void channelRead(ChannelHandlerContext ctx, Object message) throws IOException {
      if (message instanceof ByteBuf bytes) {
        events.add(bytes.toString(UTF_8));
      } else if (message instanceof ReceivedDescriptors descriptors) {
        List<String> targets = new ArrayList<>();
        while (claims && descriptors.count() > 0) {
          int fd = descriptors.take();
          targets.add(
              Files.readSymbolicLink(Path.of("/proc/self/fd/" + fd)).getFileName().toString());
          FileDescriptors.close(fd);
        }
        events.add(targets);
      }
      ReferenceCountUtil.release(message);
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext ctx, Object event) {
      events.add(event);
    }

    @Override
    public void channelInactive(ChannelHandlerContext ctx) {
      events.add("inactive");
    }

    @Override
    public void exceptionCaught(ChannelHandlerContext ctx, Throwable cause) {
      events.add(cause);
    }
  }

  @BeforeEach
  void listen() throws IOException {
    path = directory.resolve("p.sock");
    ListeningSocket listening = ListeningSocket.open(SocketSpec.parse("unix:" + path));
    loop = group.next();
    acceptor =
        Acceptor.start(
            listening,
            loop,
            fd -> {
              FdPassingChannel channel =
                  new FdPassingChannel(
                      fd, listening.address(), new DomainSocketAddress("client"), buffers);
              channel.config().setAutoRead(autoRead);
              channel.pipeline().addLast(new Recorder());
              var _ = ((EventLoop) loop).register(channel);
              channels.add(channel);
            });
  }

  @AfterEach
  void stop() throws Exception {
    loop.submit(
            () -> {
              acceptor.close();
              return true;
            })
        .sync();
    group.shutdownGracefully(0, 5, TimeUnit.SECONDS).syncUninterruptibly();
    buffers.close();
    assertThat(path).doesNotExist();
  }

  private Object next() throws InterruptedException {
    Object event = events.poll(RawClient.PATIENCE.toSeconds(), TimeUnit.SECONDS);
    assertThat(event).as("an event").isNotNull();
    return event;
  }

  private FdPassingChannel channel() throws InterruptedException {
    FdPassingChannel channel = channels.poll(RawClient.PATIENCE.toSeconds(), TimeUnit.SECONDS);
    assertThat(channel).isNotNull();
    return channel;
  }

  /** A descriptor that can be told from others by the name of its file. */
  private int mark() throws IOException {
    Path file = Files.createFile(directory.resolve("mark" + marks++));
    try (NativeFile open = NativeFile.open(file, NativeFile.Mode.READ)) {
      return open.release();
    }
  }

  private void assertNoMarkIsOpen() throws IOException {
    assertThat(OpenDescriptors.to(directory.resolve("mark").toString())).isEmpty();
  }

  @Test
  void bytesAndDescriptorsBothArriveInOrder() throws Exception {
    int one = mark();
    int two = mark();
    int three = mark();
    try (RawClient client = RawClient.connect(path)) {
      client.send("first");
      assertThat(next()).isEqualTo("first");
      client.send("second", one);
      assertThat(next()).isEqualTo(List.of("mark0"));
      assertThat(next()).isEqualTo("second");
      client.send("third", two, three);
      client.send("fourth");
      assertThat(next()).isEqualTo(List.of("mark1", "mark2"));
      assertThat(next()).isEqualTo("third");
      assertThat(next()).isEqualTo("fourth");
    } finally {
      FileDescriptors.close(one);
      FileDescriptors.close(two);
      FileDescriptors.close(three);
    }
    assertThat(next()).isEqualTo(ChannelInputShutdownEvent.INSTANCE);
    assertNoMarkIsOpen();
  }

  @Test
  void theLargestNumberOfDescriptorsArrives() throws Exception {
    int[] marks = new int[253];
    for (int i = 0; i < marks.length; i++) {
      marks[i] = mark();
    }
    try (RawClient client = RawClient.connect(path)) {
      client.send(" ", marks);
      assertThat((List<?>) next()).hasSize(253);
      assertThat(next()).isEqualTo(" ");
    } finally {
      for (int mark : marks) {
        FileDescriptors.close(mark);
      }
    }
    assertNoMarkIsOpen();
  }

  @Test
  void descriptorsThatNobodyTakesAreClosed() throws Exception {
    claims = false;
    int one = mark();
    int two = mark();
    try (RawClient client = RawClient.connect(path)) {
      client.send(" ", one, two);
      assertThat(next()).isEqualTo(List.of());
      assertThat(next()).isEqualTo(" ");
    } finally {
      FileDescriptors.close(one);
      FileDescriptors.close(two);
    }
    assertNoMarkIsOpen();
  }

  @Test
  void moreDescriptorsThanThereIsRoomForAreAllClosed() throws Exception {
    buffers = new SocketBuffers(1);
    int one = mark();
    int two = mark();
    int three = mark();
    int four = mark();
    try (RawClient client = RawClient.connect(path)) {
      client.send("truncated", one, two, three, four);
      assertThat(next()).isEqualTo("truncated");
      client.send("whole", one);
      assertThat(next()).isEqualTo(List.of("mark0"));
      assertThat(next()).isEqualTo("whole");
    } finally {
      for (int fd : new int[] {one, two, three, four}) {
        FileDescriptors.close(fd);
      }
    }
    assertNoMarkIsOpen();
  }

  @Test
  void withoutAutoReadOneReadIsOneReceive() throws Exception {
    autoRead = false;
    try (RawClient client = RawClient.connect(path)) {
      FdPassingChannel channel = channel();
      client.send("a");
      assertThat(events.poll(100, TimeUnit.MILLISECONDS)).isNull();
      channel.read();
      assertThat(next()).isEqualTo("a");
      client.send("b");
      assertThat(events.poll(100, TimeUnit.MILLISECONDS)).isNull();
      channel.read();
      assertThat(next()).isEqualTo("b");
      client.shutdownOutput();
      assertThat(events.poll(100, TimeUnit.MILLISECONDS)).isNull();
      channel.read();
      assertThat(next()).isEqualTo(ChannelInputShutdownEvent.INSTANCE);
      channel.read();
      assertThat(events.poll(100, TimeUnit.MILLISECONDS)).isNull();
      channel.close().sync();
      assertThat(next()).isEqualTo("inactive");
    }
  }

  @Test
  void aChannelThatDoesNotReadCostsNoTimeWhenThePeerIsGone() throws Exception {
    autoRead = false;
    FdPassingChannel channel;
    try (RawClient client = RawClient.connect(path)) {
      channel = channel();
      client.send("unread");
    }
    long before = cpuNanos();
    Thread.sleep(300);
    assertThat(Duration.ofNanos(cpuNanos() - before)).isLessThan(Duration.ofMillis(150));
    channel.read();
    assertThat(next()).isEqualTo("unread");
    channel.close().sync();
  }

  private long cpuNanos() throws Exception {
    return group
        .next()
        .submit(() ->
            java.lang.management.ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime())
        .get();
  }

  @Test
  void afterTheEndOfInputTheChannelCanStillWrite() throws Exception {
    try (RawClient client = RawClient.connect(path)) {
      FdPassingChannel channel = channel();
      client.send("request");
      client.shutdownOutput();
      assertThat(next()).isEqualTo("request");
      assertThat(next()).isEqualTo(ChannelInputShutdownEvent.INSTANCE);
      channel.writeAndFlush(Unpooled.copiedBuffer("answer", UTF_8)).sync();
      channel.close().sync();
      assertThat(client.rest()).isEqualTo("answer");
    }
  }

  @Test
  void writingWaitsForASlowReaderAndLosesNothing() throws Exception {
    String block = "0123456789abcdef".repeat(4096);
    StringBuilder expected = new StringBuilder();
    try (RawClient client = RawClient.connect(path)) {
      FdPassingChannel channel = channel();
      for (int i = 0; i < 200; i++) {
        String line = block + i + "\n";
        expected.append(line);
        var _ = channel.write(Unpooled.copiedBuffer(line, UTF_8));
      }
      ChannelFuture last = channel.writeAndFlush(Unpooled.EMPTY_BUFFER);
      assertThat(last.await(100)).isFalse();
      assertThat(channel.isWritable()).isFalse();

      last.addListener(ChannelFutureListener.CLOSE);
      // Not isEqualTo: it would print both.
      assertThat(client.rest().contentEquals(expected)).isTrue();
    }
  }

  @Test
  void writingToAPeerThatIsGoneClosesTheChannel() throws Exception {
    autoRead = false;
    FdPassingChannel channel;
    try (RawClient _ = RawClient.connect(path)) {
      channel = channel();
    }
    ChannelFuture write = channel.writeAndFlush(Unpooled.copiedBuffer("x", UTF_8)).await();
    assertThat(write.isSuccess()).isFalse();
    assertThat(channel.closeFuture().await(20, TimeUnit.SECONDS)).isTrue();
  }

  @Test
  void aResetIsAnErrorAndTheEnd() throws Exception {
    FdPassingChannel channel;
    try (RawClient _ = RawClient.connect(path)) {
      channel = channel();
      // The client closes without having read this, which the kernel tells as a reset.
      channel.writeAndFlush(Unpooled.copiedBuffer("never read", UTF_8)).sync();
    }
    assertThat(next()).isInstanceOf(IOException.class);
    assertThat(next()).isEqualTo("inactive");
    assertThat(channel.isOpen()).isFalse();
  }

  @Test
  void whatWasSentBeforeAResetIsStillRead() throws Exception {
    try (RawClient client = RawClient.connect(path)) {
      FdPassingChannel channel = channel();
      channel.writeAndFlush(Unpooled.copiedBuffer("never read", UTF_8)).sync();
      client.send("last words");
    }
    assertThat(next()).isEqualTo("last words");
    assertThat(next()).isInstanceOf(IOException.class);
    assertThat(next()).isEqualTo("inactive");
  }

  @Test
  void aLongMessageArrivesInPieces() throws Exception {
    byte[] message = "x".repeat(1 << 20).getBytes(UTF_8);
    try (RawClient client = RawClient.connect(path)) {
      client.send(message);
      int received = 0;
      while (received < message.length) {
        String piece = (String) next();
        assertThat(piece.length()).isLessThanOrEqualTo(SocketBuffers.BUFFER_BYTES);
        received += piece.length();
      }
    }
  }

  @Test
  void connectionsDoNotLeak() throws Exception {
    for (int i = 0; i < 50; i++) {
      try (RawClient client = RawClient.connect(path)) {
        client.send("x");
        assertThat(next()).isEqualTo("x");
        channel().close().sync();
        assertThat(next()).isEqualTo("inactive");
      }
    }
    int sockets = OpenDescriptors.to("socket:").size();
    for (int i = 0; i < 50; i++) {
      try (RawClient _ = RawClient.connect(path)) {
        channel().close().sync();
        assertThat(next()).isEqualTo("inactive");
      }
    }
    assertThat(OpenDescriptors.to("socket:")).hasSize(sockets);
  }
}
