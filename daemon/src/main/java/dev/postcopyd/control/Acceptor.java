package dev.postcopyd.control;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.UnixSocket;
import io.netty.channel.IoEvent;
import io.netty.channel.IoEventLoop;
import io.netty.channel.IoRegistration;
import io.netty.channel.epoll.EpollIoHandle;
import io.netty.channel.epoll.EpollIoOps;
import io.netty.channel.unix.FileDescriptor;
import java.io.IOException;
import java.util.concurrent.TimeUnit;
import java.util.function.IntConsumer;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Accepts the connections of one {@link ListeningSocket} on an event loop and hands their
 * descriptors on. When the process has no descriptor left, it pauses instead of spinning.
 *
 * <p>Owns the listening socket. {@link #close()} runs on the loop.
 */
final class Acceptor implements EpollIoHandle {
  private static final Logger LOG = LoggerFactory.getLogger(Acceptor.class);

  private static final int MAX_ACCEPTS_PER_TURN = 64;
  private static final int PAUSE_MILLIS = 500;

  private final ListeningSocket listening;
  private final IoEventLoop loop;
  private final IntConsumer accepted;
  private volatile @Nullable IoRegistration registration;

  /** Starts to accept; {@code accepted} owns each descriptor and runs on the loop. */
  static Acceptor start(ListeningSocket listening, IoEventLoop loop, IntConsumer accepted) {
    Acceptor acceptor = new Acceptor(listening, loop, accepted);
    IoRegistration registration = loop.register(acceptor).syncUninterruptibly().getNow();
    acceptor.registration = registration;
    registration.submit(EpollIoOps.EPOLLIN);
    return acceptor;
  }

  private Acceptor(ListeningSocket listening, IoEventLoop loop, IntConsumer accepted) {
    this.listening = listening;
    this.loop = loop;
    this.accepted = accepted;
  }

  @Override
  public FileDescriptor fd() {
    return listening.socket();
  }

  @Override
  public void handle(IoRegistration registration, IoEvent event) {
    for (int i = 0; i < MAX_ACCEPTS_PER_TURN && listening.socket().isOpen(); i++) {
      int fd = UnixSocket.accept(listening.socket().intValue());
      if (fd >= 0) {
        accepted.accept(fd);
      } else if (fd == -Errno.EAGAIN) {
        return;
      } else if (isShortage(-fd)) {
        LOG.warn("accept failed socket={} cause={}", listening.spec(), Errno.describe(-fd));
        pause(registration);
        return;
      } else {
        // The connection was gone again before it could be accepted.
        LOG.debug("accept failed socket={} cause={}", listening.spec(), Errno.describe(-fd));
      }
    }
  }

  private static boolean isShortage(int errno) {
    return errno == Errno.EMFILE
        || errno == Errno.ENFILE
        || errno == Errno.ENOMEM
        || errno == Errno.ENOBUFS;
  }

  private void pause(IoRegistration registration) {
    registration.submit(EpollIoOps.EPOLLET);
    var _ =
        loop.schedule(
            () -> {
              if (registration.isValid()) {
                registration.submit(EpollIoOps.EPOLLIN);
              }
            },
            PAUSE_MILLIS,
            TimeUnit.MILLISECONDS);
  }

  /** Stops accepting and closes the listening socket. Runs on the loop, also when that ends. */
  @Override
  public void close() throws IOException {
    IoRegistration current = registration;
    if (current != null) {
      current.cancel();
    }
    listening.close();
  }
}
