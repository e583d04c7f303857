package dev.postcopyd.control;

import org.jspecify.annotations.Nullable;

/**
 * The descriptors that a client has sent and no command has taken yet.
 *
 * <p>As with QEMU, only the newest message's descriptors wait; a command that wants one gets the
 * first of them and the others are closed; a command that wants none leaves them for the next.
 * Unlike QEMU, they come with the request that they were sent with or before, however many requests
 * wait. Owns what it holds. Safe for any thread.
 */
final class DescriptorInbox implements AutoCloseable {
  private @Nullable ReceivedDescriptors waiting;
  private boolean closed;

  /** Puts newer descriptors in place of what waits; takes over the reference. */
  synchronized void replace(ReceivedDescriptors newer) {
    releaseWaiting();
    if (closed) {
      newer.release();
    } else {
      waiting = newer;
    }
  }

  /** The first of what waits, owned by the caller, or -1; the rest is closed. */
  synchronized int take() {
    ReceivedDescriptors current = waiting;
    int fd = current == null || current.count() == 0 ? -1 : current.take();
    releaseWaiting();
    return fd;
  }

  /** Closes what waits, and whatever comes later. */
  @Override
  public synchronized void close() {
    closed = true;
    releaseWaiting();
  }

  private void releaseWaiting() {
    if (waiting != null) {
      waiting.release();
      waiting = null;
    }
  }
}
