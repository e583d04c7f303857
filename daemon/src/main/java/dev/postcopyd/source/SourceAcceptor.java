package dev.postcopyd.source;

import dev.postcopyd.posix.SocketListener;
import dev.postcopyd.posix.StreamSocket;
import java.io.IOException;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Accepts the connections of one session, on a thread of its own, as long as others may come; of an
 * address that is one connection there is nothing to accept. Owns listener and thread.
 */
final class SourceAcceptor implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(SourceAcceptor.class);

  private final SourceSession session;
  private final SourceAddress.Open address;
  private final @Nullable SocketListener listener;
  private final Thread thread =
      Thread.ofPlatform().name("source-accept").daemon().unstarted(this::run);

  SourceAcceptor(SourceSession session, SourceAddress.Open address) {
    this.session = session;
    this.address = address;
    this.listener = address.listener();
  }

  /** Whether others may still connect: then one that is of no use is no trouble. */
  boolean isListening() {
    return listener != null;
  }

  void start() {
    if (listener != null) {
      thread.start();
    }
  }

  private void run() {
    SocketListener from = listener;
    try {
      while (from != null && !session.hasEnded()) {
        int fd = from.accept(-1);
        if (fd < 0) {
          return;
        }
        take(fd, from.name());
      }
    } catch (IOException e) {
      // A guest that has been switched over is worth another try.
      session.fail("connections can no longer be accepted: " + e.getMessage(), true);
    } catch (RuntimeException | Error e) {
      log.error("connections are no longer accepted because of a bug, or for want of threads", e);
      session.fail("internal error: " + e, true);
    } finally {
      if (from != null) {
        from.close();
      }
    }
  }

  /** One that is gone already is nobody's trouble. */
  private void take(int fd, String name) {
    StreamSocket socket;
    try {
      socket = address.take(fd, name);
    } catch (IOException e) {
      log.warn("a connection can't be taken socket={}: {}", name, e.getMessage());
      return;
    }
    SourceConnection connection = session.add(socket);
    if (connection == null) {
      log.warn("a connection too many is closed socket={}", name);
      socket.close();
    } else {
      connection.start();
    }
  }

  /** The thread ends soon. */
  void stop() {
    SocketListener of = listener;
    if (of != null) {
      of.stop();
    }
  }

  /** Returns when nobody listens any more, soon after {@link #stop}. */
  void join() {
    SourceConnection.join(thread);
  }

  @Override
  public void close() {
    stop();
    join();
    SocketListener of = listener;
    if (of != null) {
      of.close();
    }
  }
}
