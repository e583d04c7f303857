package dev.postcopyd.control;

import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * What one client is sent: in order, from any thread, and counted until it has been read, here and
 * for all clients together. A client that does not read is disconnected.
 */
final class SessionOutput {
  private static final Logger log = LoggerFactory.getLogger(SessionOutput.class);

  private final QmpServer server;
  private final Channel channel;
  private final String client;
  private final Runnable taken;

  /** Guards the two that follow. */
  private final Object lock = new Object();

  private long unreadBytes;
  private boolean abandoned;

  /**
   * @param taken called on the I/O thread when the kernel has taken a message
   */
  SessionOutput(QmpServer server, Channel channel, String client, Runnable taken) {
    this.server = server;
    this.channel = channel;
    this.client = client;
    this.taken = taken;
  }

  /** How many bytes the client has not read. */
  long unreadBytes() {
    synchronized (lock) {
      return unreadBytes;
    }
  }

  boolean isAbandoned() {
    synchronized (lock) {
      return abandoned;
    }
  }

  /** Sends a message, which must not be changed any more. */
  void send(byte[] line) {
    if (isAbandoned()) {
      return;
    }
    long unread = count(line.length);
    channel
        .writeAndFlush(Unpooled.wrappedBuffer(line))
        .addListener(_ -> {
          long _ = count(-line.length);
          taken.run();
        });
    // A single message is sent whatever its size.
    if (unread > server.settings().maxUnreadBytes() && unread > line.length) {
      abandon();
    }
  }

  /** Counts unread output here, and for all clients together unless this one counts no more. */
  private long count(int bytes) {
    long unread;
    boolean counted;
    synchronized (lock) {
      unreadBytes += bytes;
      unread = unreadBytes;
      counted = !abandoned;
    }
    if (counted) {
      server.unreadChanged(bytes);
    }
    return unread;
  }

  /** Disconnects a client that does not read. */
  void abandon() {
    long unread;
    synchronized (lock) {
      if (abandoned) {
        return;
      }
      abandoned = true;
      unread = unreadBytes;
    }
    // As good as given back, so that nobody else is chosen before it is.
    server.unreadChanged(-unread);
    log.warn(
        "client disconnected because it does not read client={} unread_bytes={}", client, unread);
    var _ = channel.close();
  }
}
