package dev.postcopyd.uffd;

import dev.postcopyd.posix.EventFd;
import dev.postcopyd.posix.FileDescriptors;
import dev.postcopyd.posix.Poll;
import java.io.IOException;

/**
 * Waits for events of one userfaultfd until somebody calls {@link #wake}.
 *
 * <p>{@link #await} belongs to one thread, a platform thread: it sleeps in a plain downcall and
 * would hold on to the carrier of a virtual one. {@link #wake} may come from any thread. Owns an
 * eventfd; the userfaultfd stays its owner's and is non-blocking. Closed by the awaiting thread, or
 * after it has ended.
 *
 * <p>That the observed process has exited is no event of its userfaultfd, and {@link #await} does
 * not return for it: watch a pidfd or a socket.
 */
public final class UffdPoller implements AutoCloseable {
  private static final int USERFAULTFD = 0;
  private static final int WAKER = 1;

  private final Userfaultfd userfaultfd;
  private final EventFd waker;
  private final Poll poll;

  private UffdPoller(Userfaultfd userfaultfd, EventFd waker) {
    this.userfaultfd = userfaultfd;
    this.waker = waker;
    this.poll = Poll.readable(userfaultfd.fd(), waker.fd());
  }

  /**
   * A poller over a userfaultfd.
   *
   * @throws IllegalArgumentException if it is blocking: the kernel cannot poll that
   */
  public static UffdPoller of(Userfaultfd userfaultfd) throws IOException {
    if (!FileDescriptors.isNonBlocking(userfaultfd.fd())) {
      throw new IllegalArgumentException(userfaultfd + " is blocking and cannot be polled");
    }
    return new UffdPoller(userfaultfd, EventFd.create());
  }

  /**
   * Waits until there are events and reads them. Events that are pending already are read without
   * asking poll first, and before a wake-up is noticed: a caller that was told to stop looks at its
   * own flag after every answer.
   *
   * @param timeoutNanos how long at most; negative waits for ever
   * @return how many events were read; 0 after {@link #wake}, when the time is over, or when a
   *     signal came
   */
  public int await(UffdEventBuffer events, long timeoutNanos) throws IOException {
    int count = userfaultfd.tryRead(events);
    if (count > 0) {
      return count;
    }
    poll.await(timeoutNanos);
    if (poll.isReadable(USERFAULTFD)) {
      return userfaultfd.read(events);
    }
    if (poll.isBroken(USERFAULTFD)) {
      throw new IOException(userfaultfd + " cannot be polled: somebody has made it blocking");
    }
    if (poll.isReadable(WAKER)) {
      waker.drain();
    }
    return 0;
  }

  /** Makes the current {@link #await}, or the next one, return. */
  public void wake() {
    waker.signal();
  }

  @Override
  public void close() {
    poll.close();
    waker.close();
  }
}
