package dev.postcopyd.postcopy.uffd;

import java.util.concurrent.atomic.AtomicInteger;

/**
 * Keeps the reader of a userfaultfd and those who place pages beside it apart.
 *
 * <p>From the moment at which a REMOVE event has been read, the pages may vanish and be asked for
 * anew, and then they are zero. A loader that looked at the page's marks before the event was read
 * and makes its UFFDIO_COPY after it would bring the snapshot's bytes back: the kernel refuses a
 * placement only until the event is read (docs/adr/0019). So loaders look and place inside the
 * gate, and the gate is closed, and empty, while events are read and their marks made.
 *
 * <p>One thread closes and opens, any number enter and leave. Both sides wait by spinning and then
 * yielding: what happens inside takes microseconds. Allocates nothing.
 */
final class PlacementGate {
  private static final int SPINS = 200;

  private final AtomicInteger inside = new AtomicInteger();
  private volatile boolean closed;

  void enter() {
    int tries = 0;
    while (true) {
      inside.getAndIncrement();
      if (!closed) {
        return;
      }
      inside.getAndDecrement();
      while (closed) {
        tries = pause(tries);
      }
    }
  }

  void leave() {
    inside.getAndDecrement();
  }

  /** Returns when nobody is inside; nobody enters until {@link #open}. */
  void close() {
    closed = true;
    int tries = 0;
    while (inside.get() != 0) {
      tries = pause(tries);
    }
  }

  void open() {
    closed = false;
  }

  /** Whoever is waited for may need this very CPU, and is done in microseconds once it has it. */
  @SuppressWarnings("ThreadPriorityCheck")
  private static int pause(int tries) {
    if (tries < SPINS) {
      Thread.onSpinWait();
    } else {
      Thread.yield();
    }
    return tries + 1;
  }
}
