package dev.postcopyd.lab;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.net.StandardSocketOptions;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * A network that fails: carries connections from one place to another, and cuts all of them after
 * an exact number of bytes, in whatever record that is. TCP connections are reset, so that what is
 * on its way is lost.
 */
public final class CuttingProxy implements AutoCloseable {
  private static final int BUFFER_BYTES = 64 << 10;

  private final ServerSocketChannel listener;
  private final SocketAddress target;
  private final List<SocketChannel> open = new ArrayList<>();
  private long bytesLeft = Long.MAX_VALUE;
  private long carried;
  private boolean cut;

  private CuttingProxy(ServerSocketChannel listener, SocketAddress target) {
    this.listener = listener;
    this.target = target;
    Thread.ofPlatform().daemon().name("lab-proxy").start(this::accept);
  }

  /** From a unix socket to another. */
  public static CuttingProxy unix(Path from, Path to) throws IOException {
    ServerSocketChannel listener = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
    listener.bind(UnixDomainSocketAddress.of(from));
    return new CuttingProxy(listener, UnixDomainSocketAddress.of(to));
  }

  /** From a TCP port of the kernel's choice to another. */
  public static CuttingProxy tcp(int to) throws IOException {
    ServerSocketChannel listener = ServerSocketChannel.open();
    listener.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
    return new CuttingProxy(listener, new InetSocketAddress(InetAddress.getLoopbackAddress(), to));
  }

  /** Where it listens, as a migration URI. */
  public String uri() throws IOException {
    return switch (listener.getLocalAddress()) {
      case UnixDomainSocketAddress unix -> "unix:" + unix.getPath();
      case InetSocketAddress inet -> "tcp:127.0.0.1:" + inet.getPort();
      case SocketAddress other -> throw new IllegalStateException(other.toString());
    };
  }

  /** Cuts after so many bytes more towards the target, of all connections together. */
  public synchronized void cutAfter(long bytes) {
    bytesLeft = bytes;
    if (bytes == 0) {
      cut();
    }
  }

  /** Bytes that have been carried towards the target. */
  public synchronized long carried() {
    return carried;
  }

  private void accept() {
    try {
      while (true) {
        SocketChannel from = listener.accept();
        SocketChannel to = SocketChannel.open(target);
        synchronized (this) {
          if (cut) {
            from.close();
            to.close();
            continue;
          }
          open.add(from);
          open.add(to);
        }
        Thread.ofPlatform().daemon().name("lab-proxy-to").start(() -> carry(from, to, true));
        Thread.ofPlatform().daemon().name("lab-proxy-back").start(() -> carry(to, from, false));
      }
    } catch (IOException end) {
      // It was closed.
    }
  }

  private void carry(SocketChannel from, SocketChannel to, boolean counted) {
    ByteBuffer buffer = ByteBuffer.allocateDirect(BUFFER_BYTES);
    try {
      while (from.read(buffer) >= 0) {
        buffer.flip();
        boolean last = counted && !take(buffer);
        while (buffer.hasRemaining()) {
          to.write(buffer);
        }
        if (last) {
          cut();
          return;
        }
        buffer.clear();
      }
      to.shutdownOutput();
    } catch (IOException end) {
      // One end is gone, or both were cut.
    }
  }

  /** Takes what may still be carried; false if that is the last. */
  private synchronized boolean take(ByteBuffer buffer) {
    if (buffer.remaining() >= bytesLeft) {
      buffer.limit(buffer.position() + (int) bytesLeft);
    }
    carried += buffer.remaining();
    bytesLeft -= buffer.remaining();
    return bytesLeft > 0;
  }

  /** Ends all connections, and takes no more. */
  public synchronized void cut() {
    cut = true;
    for (SocketChannel channel : open) {
      try {
        if (!(channel.getLocalAddress() instanceof UnixDomainSocketAddress)) {
          channel.setOption(StandardSocketOptions.SO_LINGER, 0);
        }
        channel.close();
      } catch (IOException e) {
        // It has ended by itself.
      }
    }
    open.clear();
  }

  @Override
  public void close() throws IOException {
    SocketAddress address = listener.getLocalAddress();
    listener.close();
    cut();
    if (address instanceof UnixDomainSocketAddress unix) {
      Files.deleteIfExists(unix.getPath());
    }
  }
}
