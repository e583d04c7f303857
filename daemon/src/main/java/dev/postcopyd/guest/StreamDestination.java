package dev.postcopyd.guest;

import dev.postcopyd.page.PageSize;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.SocketConnector;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A migration destination that somebody else drives: it waits somewhere for a connection, and what
 * there is to know about it stands on the command line.
 *
 * <p>Owns a descriptor that came with its address, until {@link #close}.
 */
public final class StreamDestination implements PostcopyDestination {
  private static final Duration PATIENCE = Duration.ofSeconds(30);

  private final Options options;
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
   */
  public record Options(
      Map<String, PageSize> pageSizes,
      Map<String, String> names,
      Optional<Boolean> preempt,
      boolean eager) {
    public static final Options NONE = new Options(Map.of(), Map.of(), Optional.empty());

    /** Options of a destination that is sent everything. */
    public Options(
        Map<String, PageSize> pageSizes, Map<String, String> names, Optional<Boolean> preempt) {
      this(pageSizes, names, preempt, true);
    }

    public Options {
      pageSizes = Map.copyOf(pageSizes);
      names = Map.copyOf(names);
    }
  }

  public StreamDestination(StreamAddress address, Options options) {
    this.address = address;
    this.options = options;
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
    if (address instanceof StreamAddress.Connected connected) {
      return take(connected);
    }
    return address.connect(new SocketConnector(PATIENCE, () -> closed));
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
