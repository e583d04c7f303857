package dev.postcopyd.handover;

import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.EventFd;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.FileIdentity;
import dev.postcopyd.posix.FileStatus;
import dev.postcopyd.posix.PeerCredentials;
import dev.postcopyd.posix.Poll;
import dev.postcopyd.posix.UnixSocket;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFileAttributeView;
import java.nio.file.attribute.UserPrincipalLookupService;
import java.time.Duration;
import java.util.concurrent.Semaphore;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Listens for VMMs, and receives the message of each on a thread of its own, so that a slow one
 * keeps nobody waiting.
 *
 * <p>Owns the socket and its file. {@link #close} from any thread returns when the listening thread
 * has ended; messages that are being received then are still delivered.
 */
public final class HandoverListener implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(HandoverListener.class);
  private static final Duration PATIENCE = Duration.ofSeconds(10);
  private static final int BACKLOG = 128;
  private static final int MAX_HANDSHAKES = 64;

  private final HandoverSocket spec;
  private final Guests guests;
  private final int listener;
  private final FileIdentity identity;
  private final EventFd stopSignal;
  private final Semaphore handshakes = new Semaphore(MAX_HANDSHAKES);
  private final Thread thread;
  private volatile boolean stopped;

  /** Takes the guests. */
  public interface Guests {
    /**
     * A VMM has handed its memory over. Called on the connection's own thread.
     *
     * @throws IOException if it can't be served; every descriptor is still the caller's then
     */
    void handedOver(HandedOver handedOver) throws IOException;
  }

  private HandoverListener(HandoverSocket spec, Guests guests, int listener, FileIdentity identity)
      throws IOException {
    this.spec = spec;
    this.guests = guests;
    this.listener = listener;
    this.identity = identity;
    this.stopSignal = EventFd.create();
    this.thread = Thread.ofPlatform().name("handover").daemon().unstarted(this::run);
  }

  /**
   * Begins to listen.
   *
   * @throws IOException with a sentence that names the socket and what is wrong
   */
  public static HandoverListener start(HandoverSocket spec, Guests guests) throws IOException {
    Path path = spec.path();
    removeStale(path);
    boolean owned = spec.user().isPresent() || spec.group().isPresent();
    // Until its owners are right, the socket is the process's alone.
    int fd = UnixSocket.listen(path, owned ? 0600 & spec.mode() : spec.mode(), BACKLOG);
    try {
      FileIdentity identity = FileStatus.of(path).identity();
      if (owned) {
        setOwners(spec);
        UnixSocket.chmod(path, spec.mode());
      }
      HandoverListener started = new HandoverListener(spec, guests, fd, identity);
      started.thread.start();
      return started;
    } catch (IOException | RuntimeException e) {
      Files.deleteIfExists(path);
      FileDescriptors.close(fd);
      throw e;
    }
  }

  private static void setOwners(HandoverSocket spec) throws IOException {
    UserPrincipalLookupService names = spec.path().getFileSystem().getUserPrincipalLookupService();
    PosixFileAttributeView view =
        Files.getFileAttributeView(
            spec.path(), PosixFileAttributeView.class, LinkOption.NOFOLLOW_LINKS);
    if (spec.group().isPresent()) {
      view.setGroup(names.lookupPrincipalByGroupName(spec.group().get()));
    }
    if (spec.user().isPresent()) {
      view.setOwner(names.lookupPrincipalByName(spec.user().get()));
    }
  }

  /** Removes the file of a process that is gone; a connection attempt tells. */
  private static void removeStale(Path path) throws IOException {
    if (!Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
      return;
    }
    int mode = (Integer) Files.getAttribute(path, "unix:mode", LinkOption.NOFOLLOW_LINKS);
    if ((mode & 0170000) != 0140000) {
      throw new IOException("cannot listen on " + path + ": the path exists and is no socket");
    }
    try {
      FileDescriptors.close(UnixSocket.tryConnect(path));
      throw new IOException(
          "cannot listen on " + path + ": another process is listening on it already");
    } catch (ErrnoException e) {
      if (e.errno() != Errno.ECONNREFUSED) {
        throw new IOException("cannot listen on " + path + ": " + e.getMessage(), e);
      }
    }
    Files.deleteIfExists(path);
    log.info("stale socket removed path={}", path);
  }

  public Path path() {
    return spec.path();
  }

  private void run() {
    try (Poll poll = Poll.readable(listener, stopSignal.fd())) {
      while (!stopped) {
        poll.await(-1);
        if (poll.isReadable(0)) {
          accept();
        }
      }
    } catch (IOException | RuntimeException e) {
      log.error("no VMM can connect any more path={}", spec.path(), e);
    }
  }

  private void accept() {
    int connection = UnixSocket.accept(listener);
    if (connection < 0) {
      if (connection != -Errno.EAGAIN) {
        log.warn("accept failed path={} reason={}", spec.path(), Errno.describe(-connection));
        pause();
      }
      return;
    }
    if (!handshakes.tryAcquire()) {
      refuse(connection, "too many VMMs are handing over at this moment; try again", null);
      return;
    }
    Thread.ofPlatform()
        .name("handover-" + connection)
        .daemon()
        .start(() -> {
          try {
            receive(connection);
          } finally {
            handshakes.release();
          }
        });
  }

  /**
   * Out of descriptors, most likely: what there is to accept stays, and would be tried for ever.
   */
  private static void pause() {
    try {
      Thread.sleep(100);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private void receive(int connection) {
    PeerCredentials peer = null;
    HandedOver received = null;
    try {
      peer = UnixSocket.peerCredentials(connection);
      if (!spec.allowedUids().isEmpty() && !spec.allowedUids().contains(peer.uid())) {
        throw new HandoverException(
            "uid %d is not among those that are allowed".formatted(peer.uid()));
      }
      received = new HandoverReceiver(connection, peer).receive(PATIENCE);
      guests.handedOver(received);
    } catch (IOException e) {
      if (received != null) {
        received.discardDescriptors();
      }
      refuse(connection, String.valueOf(e.getMessage()), peer);
    } catch (RuntimeException | Error e) {
      log.error("handover stopped by a bug", e);
      if (received != null) {
        received.discardDescriptors();
      }
      refuse(connection, "internal error: " + e, peer);
    }
  }

  /** Says why, for those who read, and closes. */
  private static void refuse(int connection, String reason, @Nullable PeerCredentials peer) {
    log.warn(
        "guest refused pid={} uid={} reason=\"{}\"",
        peer == null ? "unknown" : peer.pid(),
        peer == null ? "unknown" : peer.uid(),
        reason);
    Refusal.send(connection, reason);
    FileDescriptors.close(connection);
  }

  @Override
  public void close() {
    if (stopped) {
      return;
    }
    stopped = true;
    stopSignal.signal();
    boolean interrupted = false;
    while (thread.isAlive()) {
      try {
        thread.join();
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    stopSignal.close();
    try {
      if (FileStatus.of(spec.path()).identity().equals(identity)) {
        Files.deleteIfExists(spec.path());
      }
    } catch (IOException e) {
      log.debug("socket file was gone path={}", spec.path());
    }
    FileDescriptors.close(listener);
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
