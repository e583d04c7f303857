package dev.postcopyd.guest;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.Errno;
import dev.postcopyd.posix.ErrnoException;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.SocketConnector;
import dev.postcopyd.tls.TlsCredentials;
import dev.postcopyd.tls.TlsTunnel;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.jspecify.annotations.Nullable;

/**
 * A migration destination that somebody else drives: it waits somewhere for a connection, and what
 * there is to know about it stands on the command line.
 *
 * <p>Owns a descriptor that came with its address, until {@link #close}.
 */
public final class StreamDestination implements PostcopyDestination {
  private static final Duration PATIENCE = Duration.ofSeconds(30);
  private static final long LOOK_NANOS = TimeUnit.MILLISECONDS.toNanos(100);

  private final Options options;
  private final Optional<TlsCredentials> tls;
  private volatile StreamAddress address;
  private volatile boolean closed;
  private boolean descriptorTaken;

  /**
   * What the command line says about the destination.
   *
   * @param pageSizes host page sizes by the destination's block names
   * @param names the destination's block names by the snapshot's
   * @param preempt whether it has the capability postcopy-preempt; empty: whatever the client has
   *     set here
   * @param eager whether it is sent what it has not asked for
   * @param tls where the credentials are that it wants to see, if the connection is encrypted
   * @param tlsHostName what its certificate calls it, if not as its address does
   * @param awaited how long somebody who does not listen yet is waited for
   */
  public record Options(
      Map<String, PageSize> pageSizes,
      Map<String, String> names,
      Optional<Boolean> preempt,
      boolean eager,
      Optional<Path> tls,
      Optional<String> tlsHostName,
      Duration awaited) {
    public static final Options NONE = new Options(Map.of(), Map.of(), Optional.empty());

    /** Options of a destination that is sent everything, without encryption. */
    public Options(
        Map<String, PageSize> pageSizes, Map<String, String> names, Optional<Boolean> preempt) {
      this(pageSizes, names, preempt, true, Optional.empty(), Optional.empty(), Duration.ZERO);
    }

    /** The same for a destination that may come later. */
    public Options awaiting(Duration patience) {
      return new Options(pageSizes, names, preempt, eager, tls, tlsHostName, patience);
    }

    public Options {
      pageSizes = Map.copyOf(pageSizes);
      names = Map.copyOf(names);
    }
  }

  public StreamDestination(StreamAddress address, Options options) {
    this(address, options, Optional.empty());
  }

  /**
   * @param tls with what connections are encrypted, if they are
   */
  public StreamDestination(StreamAddress address, Options options, Optional<TlsCredentials> tls) {
    this.address = address;
    this.options = options;
    this.tls = tls;
  }

  @Override
  public String name() {
    return address.toString();
  }

  @Override
  public Terms prepare(Offer offer) throws IOException {
    boolean preempt = options.preempt().orElse(offer.preemptWanted());
    if (preempt && address instanceof StreamAddress.Connected) {
      throw new IOException(
          name()
              + " is one connection, but postcopy-preempt takes two: use tcp: or unix:, or switch it off on both sides");
    }
    return new Terms(options.pageSizes(), options.names(), preempt, List.of());
  }

  @Override
  public int connect() throws IOException {
    StreamAddress to = address;
    int fd = to instanceof StreamAddress.Connected connected ? take(connected) : connectTo(to);
    return tls.isEmpty() ? fd : TlsTunnel.connect(fd, name(), tls.get(), peerName(to));
  }

  /** Again and again, if nobody listens yet. */
  private int connectTo(StreamAddress to) throws IOException {
    long deadlineNanos = System.nanoTime() + options.awaited().toNanos();
    while (true) {
      try {
        return to.connect(new SocketConnector(PATIENCE, () -> closed));
      } catch (ErrnoException e) {
        if (closed || options.awaited().isZero() || !mayListenLater(e.errno())) {
          throw e;
        }
        if (System.nanoTime() - deadlineNanos >= 0) {
          throw new IOException(
              "nobody has listened there for %d s: %s"
                  .formatted(options.awaited().toSeconds(), e.getMessage()),
              e);
        }
      }
      LockSupport.parkNanos(LOOK_NANOS);
    }
  }

  private static boolean mayListenLater(int errno) {
    return errno == Errno.ECONNREFUSED
        || errno == Errno.ENOENT
        || errno == Errno.ECONNRESET
        || errno == Errno.ETIMEDOUT
        || errno == Errno.EHOSTUNREACH
        || errno == Errno.ENETUNREACH;
  }

  /** As in QEMU: what the user says, else the host of a TCP address, else any name will do. */
  private @Nullable String peerName(StreamAddress to) {
    if (options.tlsHostName().isPresent()) {
      return options.tlsHostName().get();
    }
    return to instanceof StreamAddress.Tcp tcp ? tcp.host() : null;
  }

  private synchronized int take(StreamAddress.Connected connected) throws IOException {
    if (descriptorTaken || closed) {
      throw new IOException(
          name() + " has been used up: name another destination with migrate-recover");
    }
    descriptorTaken = true;
    return connected.fd();
  }

  @Override
  public void prepareRecovery(Optional<String> uri) throws IOException {
    if (uri.isPresent()) {
      try {
        moveTo(StreamAddress.parse(uri.get()));
      } catch (IllegalArgumentException e) {
        throw new IOException(e.getMessage(), e);
      }
    }
  }

  /** The destination is to be found somewhere else from now on; a descriptor becomes owned here. */
  public synchronized void moveTo(StreamAddress newAddress) {
    discardDescriptor();
    address = newAddress;
    descriptorTaken = false;
  }

  private void discardDescriptor() {
    if (!descriptorTaken && address instanceof StreamAddress.Connected(int fd)) {
      FileDescriptors.close(fd);
    }
  }

  @Override
  public void deviceStateLoaded() {}

  @Override
  public void failed(String reason) {}

  @Override
  public void completed() {}

  @Override
  public synchronized void close() {
    if (!closed) {
      closed = true;
      discardDescriptor();
    }
  }
}
